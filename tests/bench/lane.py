"""Our lane alone, for workers that are not ours: so that workers can be compared."""

from webhook.admission import logs
from webhook.admission.app import create_app
from webhook.admission.health import Health
from webhook.admission.lane import Lane
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings
from webhook.version import VERSION

logs.set_up("info")
_reviewer = Reviewer(Settings(), Metrics(VERSION))
app = Lane(_reviewer, create_app(_reviewer, Health()))

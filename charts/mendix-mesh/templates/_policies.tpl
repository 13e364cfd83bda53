{{/*
The API server's own policies. The expressions come from files/policies.json, which is generated from
policy's checks and lists. In them, <<name>> is a parameter whose value the settings have.
*/}}

{{/* A text as a literal of CEL, and in a regular expression, in which it stands for itself. */}}
{{- define "mendix-mesh.celText" -}}
'{{ toString . | replace "\\" "\\\\" | replace "'" "\\'" }}'
{{- end }}
{{- define "mendix-mesh.quoted" -}}
{{- regexQuoteMeta (toString .) | replace "'" "\\x27" -}}
{{- end }}

{{/* "mendix-mesh.engine": who decides on ordinary pods, `policy` or `webhook`. */}}
{{- define "mendix-mesh.engine" -}}
{{- ternary "policy" .Values.engine (eq .Values.engine "auto") -}}
{{- end }}

{{/* Non-empty if the API server opts pods in: by MutatingAdmissionPolicy, in Kubernetes 1.36 and later. */}}
{{- define "mendix-mesh.mutatesByPolicy" -}}
{{- $has := or (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) -}}
{{- if and $has (eq (include "mendix-mesh.engine" .) "policy") -}}yes{{- end -}}
{{- end }}

{{/* The values of the parameters, as a JSON object from name to text. */}}
{{- define "mendix-mesh.parameters" -}}
{{- $file := .Files.Get "files/policies.json" | fromJson -}}
{{- $settings := .Values.settings | default dict -}}
{{- $values := dict "selected" (include "mendix-mesh.selected" .) -}}
{{- range $name, $one := $file.parameters -}}
  {{- $value := $settings -}}
  {{- $found := true -}}
  {{- range $one.path -}}
    {{- if and $found (kindIs "map" $value) (hasKey $value .) -}}
      {{- $value = get $value . -}}
    {{- else -}}
      {{- $found = false -}}
    {{- end -}}
  {{- end -}}
  {{- if not $found -}}{{- $value = $one.default -}}{{- end -}}
  {{- $text := "" -}}
  {{- if eq $one.as "quoted" -}}
    {{- $text = include "mendix-mesh.quoted" $value -}}
  {{- else if eq $one.as "text" -}}
    {{- $text = include "mendix-mesh.celText" ($value | default "") | trimPrefix "'" | trimSuffix "'" -}}
  {{- else if eq $one.as "number" -}}
    {{- $text = kindIs "invalid" $value | ternary "0" (toString (int64 $value)) -}}
  {{- else if eq $one.as "numbers" -}}
    {{- $text = kindIs "invalid" $value | ternary "[]" (printf "[%d]" (int64 $value)) -}}
  {{- else if eq $one.as "flag" -}}
    {{- $text = ternary "true" "false" $value -}}
  {{- else -}}
    {{- $parts := list -}}
    {{- range eq $one.as "ports" | ternary (splitList "," (toString $value)) $value -}}
      {{- with trim (toString .) -}}{{- $parts = append $parts (include "mendix-mesh.quoted" .) -}}{{- end -}}
    {{- end -}}
    {{- $text = join "|" $parts | default "[^\\s\\S]" -}}
  {{- end -}}
  {{- $_ := set $values $name $text -}}
{{- end -}}
{{- $_ := set $values "optOutDenied" (ternary "false" "true" (eq ($settings.optOut | default "deny") "override")) -}}
{{- /* Of such a policy, or of pods that accepts-plaintext denies, only closed ones are ordinary. */ -}}
{{- $changed := include "mendix-mesh.changedLevels" . | fromJson -}}
{{- $closed := or (has ($settings.linkerd | default dict).inboundPolicy $file.closedPolicies) (eq (get $changed "accepts-plaintext") "deny") -}}
{{- $_ := set $values "linkerd.policies" (ternary (join "|" $file.closedPolicies) "[^\\n]*" $closed) -}}
{{- toJson $values -}}
{{- end }}

{{/* An expression with the values of its parameters. Called with `text` and `values`. */}}
{{- define "mendix-mesh.filled" -}}
{{- $text := .text -}}
{{- range $name, $value := .values -}}
  {{- $text = $text | replace (printf "<<%s>>" $name) $value -}}
{{- end -}}
{{- $text -}}
{{- end }}

{{/*
An expression that is true for pods that an exemption or a level of the settings selects, if it is of
a check that the API server decides, or that an ordinary pod can violate. The server judges these pods.
*/}}
{{- define "mendix-mesh.selected" -}}
{{- $checks := dict -}}
{{- $file := .Files.Get "files/policies.json" | fromJson -}}
{{- range $file.undecided -}}{{- $_ := set $checks . true -}}{{- end -}}
{{- range $name, $mesh := $file.meshes -}}
  {{- range $mesh.rules -}}{{- $_ := set $checks .check true -}}{{- end -}}
{{- end -}}
{{- $parts := list -}}
{{- range ($.Values.settings | default dict).exemptions -}}
  {{- $entry := . -}}
  {{- $ours := false -}}
  {{- range .checks -}}{{- if hasKey $checks . -}}{{- $ours = true -}}{{- end -}}{{- end -}}
  {{- if $ours -}}{{- $parts = append $parts (include "mendix-mesh.selects" $entry) -}}{{- end -}}
{{- end -}}
{{- range ($.Values.settings | default dict).levels -}}
  {{- if and (hasKey $checks .check) (not (include "mendix-mesh.selectsAll" .)) -}}
    {{- $parts = append $parts (include "mendix-mesh.selects" .) -}}
  {{- end -}}
{{- end -}}
{{- join " || " $parts | default "false" -}}
{{- end }}

{{/* The levels that the settings set for all pods, as a JSON object from check to level. */}}
{{- define "mendix-mesh.changedLevels" -}}
{{- $changed := dict -}}
{{- range (.Values.settings | default dict).levels -}}
  {{- if include "mendix-mesh.selectsAll" . -}}{{- $_ := set $changed .check .level -}}{{- end -}}
{{- end -}}
{{- toJson $changed -}}
{{- end }}

{{/* Non-empty if an entry of the settings is for all pods. */}}
{{- define "mendix-mesh.selectsAll" -}}
{{- if and (has "*" (.namespaces | default (list "*"))) (not .selector) -}}yes{{- end -}}
{{- end }}

{{/* The pods that an entry of the settings selects, as an expression. */}}
{{- define "mendix-mesh.selects" -}}
{{- $globs := list -}}
{{- range .namespaces | default (list "*") -}}
  {{- if contains "[" . -}}
    {{- $globs = append $globs ".*" -}}
  {{- else -}}
    {{- $globs = append $globs (include "mendix-mesh.quoted" . | replace "\\*" ".*" | replace "\\?" ".") -}}
  {{- end -}}
{{- end -}}
{{- $parts := list (printf "request.namespace.matches(r'^(?:%s)$')" (join "|" $globs)) -}}
{{- $labels := "object.metadata.?labels.orValue({})" -}}
{{- range $key, $value := (.selector | default dict).matchLabels -}}
  {{- $parts = append $parts (printf "%s[?%s].orValue('') == %s" $labels (include "mendix-mesh.celText" $key) (include "mendix-mesh.celText" $value)) -}}
{{- end -}}
{{- range (.selector | default dict).matchExpressions -}}
  {{- $known := printf "%s in %s" (include "mendix-mesh.celText" .key) $labels -}}
  {{- $in := printf "(%s && %s[?%s].orValue('') in %s)" $known $labels (include "mendix-mesh.celText" .key) (include "mendix-mesh.celList" (.values | default list)) -}}
  {{- $parts = append $parts (get (dict "Exists" $known "DoesNotExist" (printf "!(%s)" $known) "In" $in "NotIn" (printf "!%s" $in)) .operator) -}}
{{- end -}}
({{ join " && " $parts }})
{{- end }}

{{/*
"mendix-mesh.ordinary": whether the API server decides on a new pod. Called with the root as `root`, the
mesh, and `which`: `ordinary` for a pod as it is stored, `submitted` before any injector has seen it,
`bounded` for the part of `ordinary` that bounds what the checks cost.
*/}}
{{- define "mendix-mesh.ordinary" -}}
{{- $mesh := get (.root.Files.Get "files/policies.json" | fromJson).meshes .mesh -}}
{{- $values := include "mendix-mesh.parameters" .root | fromJson -}}
{{- include "mendix-mesh.filled" (dict "text" (get $mesh .which) "values" $values) -}}
{{- end }}

{{/*
"mendix-mesh.found": the violations of a level, as one list of [check, field, reason, fix]. Called with
the root as `root`, the mesh and the level. A level that the settings set for all pods counts.
*/}}
{{- define "mendix-mesh.found" -}}
{{- $root := .root -}}
{{- $level := .level -}}
{{- $mesh := get (.root.Files.Get "files/policies.json" | fromJson).meshes .mesh -}}
{{- $values := include "mendix-mesh.parameters" .root | fromJson -}}
{{- $changed := include "mendix-mesh.changedLevels" $root | fromJson -}}
{{- $parts := list -}}
{{- $explained := list -}}
{{- range $mesh.rules -}}
  {{- if and .explains (eq (get $changed .check | default .level) "deny") -}}
    {{- $explained = append $explained (printf "size(%s) == 0" .rows) -}}
  {{- end -}}
{{- end -}}
{{- range $mesh.rules -}}
  {{- if eq (get $changed .check | default .level) $level -}}
    {{- $rows := .rows -}}
    {{- if .absence -}}{{- $rows = printf "(%s) ? (%s) : []" (join " && " $explained) .rows -}}{{- end -}}
    {{- $parts = append $parts (printf "(%s).map(r, ['%s', r[0], r[1], r[2]])" $rows .check) -}}
  {{- end -}}
{{- end -}}
{{- include "mendix-mesh.filled" (dict "text" (join " + " $parts | default "[['']].filter(r, false)") "values" $values) -}}
{{- end }}

{{/* What is said of a pod, without and with its role. */}}
{{- define "mendix-mesh.subject" -}}
'pod ' + (has(object.metadata.generateName) ? object.metadata.generateName + '*' : object.metadata.name)
{{- end }}
{{- define "mendix-mesh.subjectWithRole" -}}
{{ include "mendix-mesh.subject" . }} + {{ (.Files.Get "files/policies.json" | fromJson).role }}
{{- end }}

{{/* The rules for what the policies judge: new pods. */}}
{{- define "mendix-mesh.newPods" -}}
matchConstraints:
  matchPolicy: Equivalent
  namespaceSelector: {}
  objectSelector: {}
  resourceRules:
    - operations: [CREATE]
      apiGroups: [""]
      apiVersions: [v1]
      resources: [pods]
      scope: Namespaced
{{- end }}

{{/*
"mendix-mesh.bindings": the namespaces of each mesh and mode that the policies are for, as a JSON list of
mesh, mode, name, where. They are those of the validating webhook, without the ingress namespaces.
*/}}
{{- define "mendix-mesh.bindings" -}}
{{- $bindings := list -}}
{{- range include "mendix-mesh.validating" . | fromJsonArray -}}
  {{- $parts := splitList "/" .path -}}
  {{- if and (eq (len $parts) 4) (ne .mesh "unknown") -}}
    {{- $bindings = append $bindings (dict "mesh" .mesh "mode" (index $parts 3) "where" .where
          "name" (trimSuffix ".mendix-mesh.io" .name | replace "." "-" | printf "mendix-mesh-%s")) -}}
  {{- end -}}
{{- end -}}
{{- toJson $bindings -}}
{{- end }}

{{/* Whether a submitted pod needs the mutating webhook. Called with the root as `root`, and the mesh. */}}
{{- define "mendix-mesh.notOptedIn" -}}
{{- $values := include "mendix-mesh.parameters" .root | fromJson -}}
{{- $wanted := (get (.root.Files.Get "files/policies.json" | fromJson).meshes .mesh).wanted -}}
({{ include "mendix-mesh.filled" (dict "text" $wanted "values" $values) }}) || !({{ include "mendix-mesh.ordinary" (dict "root" .root "mesh" .mesh "which" "submitted") }})
{{- end }}

{{/*
"mendix-mesh.optInBindings": the namespaces of each mesh, in all modes, without the ingress namespaces, as
a JSON list of mesh, name, where. For each new pod of the cluster, the API server reads the selector of
each binding, so there are as few as possible.
*/}}
{{- define "mendix-mesh.optInBindings" -}}
{{- $bindings := list -}}
{{- range include "mendix-mesh.audiences" . | fromJsonArray -}}
  {{- if not .tail -}}
    {{- $bindings = append $bindings (dict "mesh" .mesh "where" (append .where .names | compact)
          "name" (list "mendix-mesh" .mesh .kind | compact | join "-")) -}}
  {{- end -}}
{{- end -}}
{{- toJson $bindings -}}
{{- end }}

{{/*
Since when the policies decide alone. They are in force a few seconds after they are installed or
changed, and until then the webhook is called for every pod.
*/}}
{{- define "mendix-mesh.policiesSince" -}}
{{- if .Values.policyDelaySeconds -}}
{{- dateInZone "2006-01-02T15:04:05Z" (dateModify (printf "+%ds" (int64 .Values.policyDelaySeconds)) now) "UTC" -}}
{{- end -}}
{{- end }}

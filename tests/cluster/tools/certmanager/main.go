// Command certmanager is cert-manager without a cluster of its own: the controllers that issue
// certificates and the CA injector, in one process. cert-manager's own commands are separate
// modules that cannot be required from here, so this one starts what they start, from the library.
//
// Left out: leader election, ACME and the other remote issuers, and cert-manager's own webhook.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/logs"

	// Each controller puts its constructor into controller.Known() when it is imported.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"

	// Kinds of issuers register themselves in the same way.
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// Not the global flags: there controller-runtime has a -kubeconfig of its own.
var (
	flags      = flag.NewFlagSet("certmanager", flag.ExitOnError)
	kubeconfig = flags.String("kubeconfig", "", "kubeconfig file of an administrator")
	listen     = flags.String("listen", "127.0.0.1:0", "where /healthz is: 200 once all caches are in sync")
)

const (
	workers           = 2   // of each controller
	queries           = 200 // a second, and twice as many in a burst; upstream's are for clusters
	clusterIssuersOwn = "cert-manager"
)

func main() {
	klog.InitFlags(flags)
	utilruntime.Must(flags.Parse(os.Args[1:]))
	log := klog.Background().WithName("certmanager")
	ctrl.SetLogger(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(logs.NewContext(ctx, log)); err != nil {
		klog.ErrorS(err, "cert-manager ended")
		klog.FlushAndExit(time.Second, 1)
	}
}

// run serves until the context ends, or a part fails and so ends all.
func run(ctx context.Context) error {
	var waiting atomic.Int32 // parts whose caches are not in sync yet
	parts, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context, func()) error{issue, inject} {
		waiting.Add(1)
		parts.Go(func() error { return part(ctx, func() { waiting.Add(-1) }) })
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if waiting.Load() > 0 {
			http.Error(w, "caches are not in sync", http.StatusServiceUnavailable)
		}
	})
	health := http.Server{Addr: *listen, ReadHeaderTimeout: time.Second}
	context.AfterFunc(ctx, func() { health.Close() })
	parts.Go(func() error {
		if err := health.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return parts.Wait()
}

// issue runs the controllers of certificates and issuers.
func issue(ctx context.Context, ready func()) error {
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:         *kubeconfig,
		KubernetesAPIQPS:   queries,
		KubernetesAPIBurst: 2 * queries,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: clusterIssuersOwn},
		CertificateOptions: controller.CertificateOptions{
			// As upstream's defaults, but for the first wait after a failure, an hour there.
			CopiedAnnotationPrefixes: []string{
				"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/",
			},
			CertificateRequestMinimumBackoffDuration: time.Second,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	})
	if err != nil {
		return err
	}
	informers, err := factory.Build()
	if err != nil {
		return err
	}
	loops, ctx := errgroup.WithContext(ctx)
	for name, construct := range controller.Known() {
		loop, err := construct(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		loops.Go(func() error { return loop.Run(workers, ctx) })
	}
	// The constructors say what is to be watched: start only now.
	informers.SharedInformerFactory.Start(ctx.Done())
	informers.KubeSharedInformerFactory.Start(ctx.Done())
	informers.SharedInformerFactory.WaitForCacheSync(ctx.Done())
	informers.KubeSharedInformerFactory.WaitForCacheSync(ctx.Done())
	ready()
	return loops.Wait()
}

// inject runs the CA injector.
func inject(ctx context.Context, ready func()) error {
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst, config.UserAgent = queries, 2*queries, "cainjector"
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		scheme.AddToScheme, cmapi.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme,
	} {
		utilruntime.Must(add(kinds))
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  kinds,
		Metrics: server.Options{BindAddress: "0"},
		// Secrets are watched as metadata only, and read one by one.
		Client: client.Options{Cache: &client.CacheOptions{
			DisableFor: []client.Object{&corev1.Secret{}},
		}},
	})
	if err != nil {
		return err
	}
	err = cainjector.RegisterAllInjectors(ctx, manager, cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
			cainjector.APIServiceName:                     true,
			cainjector.CustomResourceDefinitionName:       true,
		},
	})
	if err != nil {
		return err
	}
	go func() {
		if manager.GetCache().WaitForCacheSync(ctx) {
			ready()
		}
	}()
	return manager.Start(ctx)
}

package main

import (
	"flag"
	"log"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// networkPolicies enforces the network policies for the pods of the node whose name is this
// machine's host name. It is the controller of kube-router that does so with iptables and ipset.
// Routes and Services are left to the other programs.
func networkPolicies(args []string) {
	set := flag.NewFlagSet("network-policies", flag.ExitOnError)
	kubeconfig := set.String("kubeconfig", "", "the `file` that leads to the API server")
	services := set.String("service-cluster-ip-range", "", "the `network` of the Services' addresses")
	_ = set.Parse(args)

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	client, err := kubernetes.NewForConfig(config)
	check(err)
	forever := make(chan struct{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(forever)
	factory.WaitForCacheSync(forever)

	// The informers report each change. The period is for changes of the rules by other programs.
	router := options.NewKubeRouterConfig()
	router.EnableIPv4 = true
	router.ClusterIPCIDRs = []string{*services}
	router.IPTablesSyncPeriod = time.Minute
	tables, sets, err := netpol.NewIPTablesHandlers(router)
	check(err)
	controller, err := netpol.NewNetworkPolicyController(client, router, pods, policies, namespaces, new(sync.Mutex), tables, sets)
	check(err)
	_, err = pods.AddEventHandler(controller.PodEventHandler)
	check(err)
	_, err = namespaces.AddEventHandler(controller.NamespaceEventHandler)
	check(err)
	_, err = policies.AddEventHandler(controller.NetworkPolicyEventHandler)
	check(err)

	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range heartbeats { // without a reader the controller would wait
		}
	}()
	var all sync.WaitGroup
	all.Add(1)
	controller.Run(heartbeats, forever, &all)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

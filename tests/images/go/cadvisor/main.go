// A cAdvisor main program of our own for the test image: the upstream one is a module of its own that the module proxy
// does not serve. It has the flags of upstream that the role uses, and serves /metrics and /healthz.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/google/cadvisor/cache/memory"
	"github.com/google/cadvisor/container"
	_ "github.com/google/cadvisor/container/docker/install"
	v2 "github.com/google/cadvisor/info/v2"
	"github.com/google/cadvisor/manager"
	"github.com/google/cadvisor/metrics"
	"github.com/google/cadvisor/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

var version = "unknown"

func main() {
	klog.InitFlags(nil)
	address := flag.String("listen_ip", "", "IP address to listen on, all by default")
	port := flag.Int("port", 8080, "port to listen on")
	allLabels := flag.Bool("store_container_labels", true, "turn all container labels into metric labels")
	someLabels := flag.String("whitelisted_container_labels", "", "the container labels to keep otherwise")
	environment := flag.String("env_metadata_whitelist", "", "environment variables to keep as labels")
	showVersion := flag.Bool("version", false, "print the version and exit")
	// Upstream's: without the kernel's support for them some of these end the program.
	disabled := container.MetricSet{}
	err := disabled.Set("advtcp,cpu_topology,cpuset,hugetlb,memory_numa,process,referenced_memory,resctrl,sched,tcp,udp")
	if err != nil {
		log.Fatal(err)
	}
	flag.Var(&disabled, "disable_metrics", "comma-separated kinds of metrics that are left out")
	flag.Parse()
	if *showVersion {
		fmt.Println("cAdvisor version", version)
		return
	}

	included := container.AllMetrics.Difference(disabled)
	watched, err := manager.New(memory.New(2*time.Minute, nil), sysfs.NewRealSysFs(), manager.HousekeepingConfigFlags,
		included, http.DefaultClient, []string{""}, strings.Split(*environment, ","), "", 0)
	if err != nil {
		log.Fatalf("no manager: %v", err)
	}
	if err := watched.Start(); err != nil {
		log.Fatalf("cannot start: %v", err)
	}
	labels := metrics.DefaultContainerLabels
	if !*allLabels {
		labels = metrics.BaseContainerLabels(strings.Split(*someLabels, ","))
	}
	registry := prometheus.NewRegistry()
	options := v2.RequestOptions{IdType: v2.TypeName, Count: 1, Recursive: true}
	registry.MustRegister(
		metrics.NewPrometheusCollector(watched, labels, included, clock.RealClock{}, options),
		metrics.NewPrometheusMachineCollector(watched, included),
	)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, "ok") })
	log.Fatal(http.ListenAndServe(fmt.Sprintf("%s:%d", *address, *port), nil))
}

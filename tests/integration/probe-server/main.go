// A program like those of the stack, small enough to misbehave on demand: it reads a configuration, answers when it is
// ready, reloads at SIGHUP and tells by two metrics how that went.
//
// Words in the configuration: "nonsense" is refused by `check` and by the program, "trap" by the program alone.
// Behaviour is given by the environment, so that an image can bring it along.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type state struct {
	config  atomic.Value // string
	success atomic.Int64
	stamp   atomic.Int64 // nanoseconds
}

func read(directory string, refused ...string) (string, error) {
	text, err := os.ReadFile(filepath.Join(directory, "main.conf"))
	if err != nil {
		return "", err
	}
	for _, word := range refused {
		if strings.Contains(string(text), word) {
			return "", fmt.Errorf("main.conf: unknown word %q", word)
		}
	}
	return string(text), nil
}

func duration(name string) time.Duration {
	value, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return 0
	}
	return value
}

func (s *state) reload(directory string) error {
	text, err := read(directory, "nonsense", "trap")
	if err != nil {
		s.success.Store(0)
		return err
	}
	s.config.Store(text)
	s.success.Store(1)
	s.stamp.Store(time.Now().UnixNano())
	return nil
}

func main() {
	log.SetFlags(0)
	directory := "/etc/probe"
	if len(os.Args) > 1 && os.Args[1] == "check" {
		if _, err := read(directory, "nonsense"); err != nil {
			log.Fatalf("FAILED: %v", err)
		}
		own, _ := filepath.Glob(filepath.Join(directory, "kept.d", "*"))
		for _, path := range own {
			if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "nonsense") {
				log.Fatalf("FAILED: %s: unknown word (%v)", filepath.Base(path), err)
			}
		}
		return
	}
	if os.Getenv("PROBE_EXIT") != "" {
		log.Fatal("fatal: this version cannot live")
	}
	s := &state{}
	if err := s.reload(directory); err != nil {
		log.Fatalf("fatal: %v", err)
	}
	starts, err := os.OpenFile("/data/starts", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		log.Fatalf("fatal: %v", err)
	}
	fmt.Fprintln(starts, os.Getenv("PROBE_VERSION"))

	began, after := time.Now(), duration("PROBE_READY_AFTER")
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("PROBE_NEVER_READY") != "" || time.Since(began) < after {
			http.Error(w, "still replaying", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/config", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.config.Load()) })
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "probe_config_last_reload_successful %d\n", s.success.Load())
		fmt.Fprintf(w, "probe_config_last_reload_success_timestamp_seconds %f\n", float64(s.stamp.Load())/1e9)
	})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	go func() {
		for received := range signals {
			if received == syscall.SIGTERM {
				if after := duration("PROBE_SAVE_AFTER"); after > 0 {
					time.Sleep(after)
					if err := os.WriteFile("/data/saved", nil, 0o640); err != nil {
						log.Fatalf("fatal: %v", err)
					}
				}
				os.Exit(0)
			}
			time.Sleep(duration("PROBE_SLOW_RELOAD"))
			if err := s.reload(directory); err != nil {
				log.Printf("reload failed: %v", err)
			}
		}
	}()
	log.Printf("listening on %s", os.Getenv("PROBE_LISTEN"))
	log.Fatal(http.ListenAndServe(os.Getenv("PROBE_LISTEN"), nil))
}

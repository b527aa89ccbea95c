// A new version that cannot live, in the way that BROKEN says; put into an image in place of its program or checker.
package main

import (
	"log"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	switch os.Getenv("BROKEN") {
	case "silent":
		time.Sleep(time.Hour)
	case "data":
		// What a program does that converts its data and then finds that it cannot read them.
		for _, path := range os.Args[1:] {
			if _, err := os.Stat(path); err == nil {
				if err := os.WriteFile(path, []byte("half converted"), 0o640); err != nil {
					log.Fatalf("fatal: %v", err)
				}
			}
		}
		log.Fatal("fatal: cannot read the data")
	}
	log.Fatal("fatal: this version cannot live")
}

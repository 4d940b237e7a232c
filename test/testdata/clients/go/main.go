// The program writes until its standard input ends, and then reports how that went. The code that
// connects is in docs/clients.md; the test writes it next to this file.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	connect := map[string]func() (*redis.Client, error){"url": byURL, "sentinels": bySentinels}[os.Args[2]]
	client, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	ctx := context.Background()
	said := struct {
		Tried   int            `json:"tried"`
		Failed  int            `json:"failed"`
		Longest float64        `json:"longest"`
		Errors  map[string]int `json:"errors"`
		Last    int            `json:"last"`
	}{Errors: map[string]int{}}
	for {
		select {
		case <-stop:
			said.Last, _ = client.Get(ctx, os.Args[1]).Int()
			_ = json.NewEncoder(os.Stdout).Encode(said)
			return
		case <-time.After(10 * time.Millisecond):
		}
		said.Tried++
		begun := time.Now()
		if err := client.Set(ctx, os.Args[1], said.Tried, 0).Err(); err != nil {
			said.Failed++
			said.Errors[err.Error()]++
		}
		said.Longest = max(said.Longest, time.Since(begun).Seconds())
		if said.Tried == 1 {
			fmt.Println("ready")
		}
	}
}

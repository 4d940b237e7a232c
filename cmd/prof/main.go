package main

import (
	"context"
	"net"
	"os"
	"runtime/pprof"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/web"
)

func main() {
	c, err := redis.New(redis.Config{Address: "127.0.0.1:7401", MinAcks: 1})
	if err != nil {
		panic(err)
	}
	go c.Run(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:7510")
	if err != nil {
		panic(err)
	}
	go web.New(web.Config{Node: "web-1"}, c).Serve(context.Background(), ln)
	time.Sleep(2 * time.Second)
	f, _ := os.Create(os.Args[1])
	pprof.StartCPUProfile(f)
	time.Sleep(4 * time.Second)
	pprof.StopCPUProfile()
	f.Close()
}

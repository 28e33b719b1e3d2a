// Command go-clients runs one third-party Go client against the broker that
// BROKERS names: go-clients sarama|kafka-go.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

const records = 100 // per codec

func main() {
	clients := map[string]func(context.Context, []string) error{"sarama": trySarama, "kafka-go": tryKafkaGo}
	if len(os.Args) != 2 || clients[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go-clients sarama|kafka-go")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := clients[os.Args[1]](ctx, strings.Split(os.Getenv("BROKERS"), ",")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

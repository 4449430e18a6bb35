// Calls ShouldRateLimit at a steady rate over one connection, as an Envoy worker does, half checks and half charges, and
// prints latencies in milliseconds as JSON. Calls do not wait for one another: a slow answer delays no later call.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	rl "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	tenants       = 1000
	warmUpSeconds = 2
)

func callSteadily(arguments []string) {
	if len(arguments) != 3 {
		log.Fatal("usage: policy-peers load ADDRESS RATE SECONDS")
	}
	rate, err := strconv.Atoi(arguments[1])
	if err != nil || rate <= 0 {
		log.Fatalf("the rate is no number above 0: %q", arguments[1])
	}
	seconds, err := strconv.Atoi(arguments[2])
	if err != nil || seconds <= 0 {
		log.Fatalf("the seconds are no number above 0: %q", arguments[2])
	}
	connection, err := grpc.NewClient(arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewRateLimitServiceClient(connection)
	// Both sides are compiled and connected first.
	measure(client, rate, warmUpSeconds)
	report(measure(client, rate, seconds))
}

type measured struct {
	millis        []float64
	failed, limit int
}

func measure(client pb.RateLimitServiceClient, rate, seconds int) measured {
	var lock sync.Mutex
	var calls sync.WaitGroup
	var found measured
	interval := time.Second / time.Duration(rate)
	began := time.Now()
	for index := range rate * seconds {
		time.Sleep(time.Until(began.Add(time.Duration(index) * interval)))
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			sent := time.Now()
			answer, err := client.ShouldRateLimit(ctx, request(index))
			taken := float64(time.Since(sent).Microseconds()) / 1000
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				found.failed++
				return
			}
			if answer.OverallCode == pb.RateLimitResponse_OVER_LIMIT {
				found.limit++
			}
			found.millis = append(found.millis, taken)
		})
	}
	calls.Wait()
	return found
}

func request(index int) *pb.RateLimitRequest {
	hits := uint64(0)
	if index%2 == 1 {
		hits = 40
	}
	entry := &rl.RateLimitDescriptor_Entry{Key: "tenant", Value: fmt.Sprintf("t%d", index%tenants)}
	descriptor := &rl.RateLimitDescriptor{
		Entries:    []*rl.RateLimitDescriptor_Entry{entry},
		HitsAddend: wrapperspb.UInt64(hits),
	}
	return &pb.RateLimitRequest{Domain: "tokenwatt", Descriptors: []*rl.RateLimitDescriptor{descriptor}}
}

func report(found measured) {
	sort.Float64s(found.millis)
	at := func(share float64) float64 {
		if len(found.millis) == 0 {
			return 0
		}
		return found.millis[min(len(found.millis)-1, int(share*float64(len(found.millis))))]
	}
	line := map[string]any{
		"answered": len(found.millis), "failed": found.failed, "limited": found.limit,
		"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1),
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
}

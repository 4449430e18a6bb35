// grpc-go's own `weighted_round_robin` with reports out of band, over the addresses given: calls each of them as the
// balancer says, and prints with every hundred calls how many each was sent, as JSON.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/emptypb"
)

const balancing = `{"loadBalancingConfig": [{"weighted_round_robin": {
  "enableOobLoadReport": true, "oobReportingPeriod": "1s", "blackoutPeriod": "0s",
  "weightExpirationPeriod": "4s", "weightUpdatePeriod": "1s"}}]}`

func balance(addresses []string) {
	static := manual.NewBuilderWithScheme("static")
	var state resolver.State
	for _, address := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	static.InitialState(state)
	connection, err := grpc.NewClient("static:///chat", grpc.WithResolvers(static),
		grpc.WithDefaultServiceConfig(balancing), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	output := json.NewEncoder(os.Stdout)
	for {
		sent := map[string]int{}
		for range 100 {
			if address := call(connection); address != "" {
				sent[address]++
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err := output.Encode(sent); err != nil {
			log.Fatal(err)
		}
	}
}

// call says which address answered; an empty one is a call that failed.
func call(connection *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var to peer.Peer
	if err := connection.Invoke(ctx, "/chat.Chat/Say", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Peer(&to)); err != nil {
		log.Printf("a call failed: %v", err)
		return ""
	}
	return to.Addr.String()
}

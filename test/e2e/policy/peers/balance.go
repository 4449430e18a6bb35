// grpc-go's own `weighted_round_robin` with reports out of band, over the addresses given: calls them 200 times a second,
// each call where the balancer says, until it is ended. Who was called knows how often.
package main

import (
	"context"
	"log"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/credentials/insecure"
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
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := connection.Invoke(ctx, "/chat.Chat/Say", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
			log.Printf("a call failed: %v", err)
		}
		cancel()
		time.Sleep(5 * time.Millisecond)
	}
}

// What rate-limit calls and load reports are judged by, in Go: envoyproxy/ratelimit with a clock that calls move, a caller
// of rate-limit services at a steady rate, and grpc-go's weighted round robin out of band. Its usage:
// policy-peers ratelimit (settings in the environment, as the real program) | load ADDRESS RATE SECONDS | balance ADDRESS...
package main

import (
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: policy-peers ratelimit | load ADDRESS RATE SECONDS | balance ADDRESS...")
	}
	switch arguments := os.Args[2:]; os.Args[1] {
	case "ratelimit":
		serveRateLimits()
	case "load":
		callSteadily(arguments)
	case "balance":
		balance(arguments)
	default:
		log.Fatalf("no peer is named %q", os.Args[1])
	}
}

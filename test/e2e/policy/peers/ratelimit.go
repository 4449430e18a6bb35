// envoyproxy/ratelimit as its own runner puts it together, but for its time: a call that carries `unix-seconds` moves the
// clock there first, so that years of windows pass in seconds. Counts are in the real Redis that REDIS_URL names.
package main

import (
	"context"
	"log"
	"math/rand"
	"strconv"
	"sync/atomic"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/envoyproxy/ratelimit/src/redis"
	"github.com/envoyproxy/ratelimit/src/server"
	ratelimit "github.com/envoyproxy/ratelimit/src/service"
	"github.com/envoyproxy/ratelimit/src/settings"
	"github.com/envoyproxy/ratelimit/src/stats"
	"github.com/envoyproxy/ratelimit/src/stats/prom"
	"github.com/envoyproxy/ratelimit/src/utils"
	gostats "github.com/lyft/gostats"
	logger "github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// movedClock stands still between calls.
type movedClock struct{ seconds atomic.Int64 }

func (c *movedClock) UnixNow() int64 { return c.seconds.Load() }

func (c *movedClock) follow(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	if at := metadata.ValueFromIncomingContext(ctx, "unix-seconds"); len(at) == 1 {
		seconds, err := strconv.ParseInt(at[0], 10, 64)
		if err != nil {
			return nil, err
		}
		c.seconds.Store(seconds)
	}
	return handler(ctx, request)
}

func serveRateLimits() {
	chosen := settings.NewSettings()
	level, err := logger.ParseLevel(chosen.LogLevel)
	if err != nil {
		log.Fatal(err)
	}
	logger.SetLevel(level)
	clock := &movedClock{}
	clock.seconds.Store(time.Now().Unix())
	store := gostats.NewStore(gostats.NewNullSink(), false)
	if chosen.UsePrometheus {
		store = gostats.NewStore(prom.NewPrometheusSink(prom.WithAddr(chosen.PrometheusAddr),
			prom.WithPath(chosen.PrometheusPath), prom.WithMapperYamlPath(chosen.PrometheusMapperYaml)), false)
	}
	go store.Start(time.NewTicker(chosen.StatsFlushInterval))
	manager := stats.NewStatManager(store, chosen)
	serving := server.NewServer(chosen, "ratelimit", manager, nil, settings.GrpcUnaryInterceptor(clock.follow))
	random := rand.New(utils.NewLockedSource(1))
	cache, _ := redis.NewRateLimiterCacheImplFromSettings(
		chosen, nil, serving, clock, random, chosen.ExpirationJitterMaxSeconds, manager)
	service := ratelimit.NewService(cache, serving.Provider(), manager, serving.HealthChecker(), clock,
		chosen.GlobalShadowMode, chosen.ForceStartWithoutInitialConfig, chosen.HealthyWithAtLeastOneConfigLoaded)
	pb.RegisterRateLimitServiceServer(serving.GrpcServer(), service)
	serving.Start()
}

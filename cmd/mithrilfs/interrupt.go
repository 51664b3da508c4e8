package main

import (
	"context"
	"os/signal"
	"syscall"
)

// untilInterrupted is a context that ends with SIGINT or SIGTERM. A second
// signal ends the process at once.
func untilInterrupted() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

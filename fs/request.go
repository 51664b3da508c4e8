package fs

import (
	"context"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// Requests that wait for the backing disk run beside the one that answers them:
// while the disk hangs, a client that is interrupted, or killed, gets EINTR and
// is free. What it asked for may still happen once the disk goes on.

// request runs do, which may outlive the answer.
func request(ctx context.Context, do func(context.Context) error) error {
	_, err := patience.Do(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) }, nil)
	return err
}

// await is request with a result.
func await[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	return patience.Do(ctx, do, nil)
}

// changeNames is request for what changes names. Where it succeeds after the answer,
// late, which may be nil, tells the kernel and our tree of nodes, which believe that it failed.
func changeNames(ctx context.Context, do func() error, late func()) error {
	_, err := patience.Do(ctx, func(context.Context) (struct{}, error) { return struct{}{}, do() },
		func(_ struct{}, err error) {
			if err == nil && late != nil {
				late()
			}
		})
	return err
}

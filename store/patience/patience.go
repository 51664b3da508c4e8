// Package patience lets a request wait for a disk without being bound to it. A
// client that is interrupted gets its answer, EINTR, although what it waited for
// goes on: a system call that hangs can't be called back.
//
// Programs do not expect EINTR from files. A signal that finds a request at work
// must not be seen by them, so the answer comes only when the request has gone on
// for Patience after it was interrupted: then the disk hangs.
package patience

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a request that was interrupted may still go on.
const Patience = time.Second

type key struct{}

// Context returns a context that ends when ctx ended Patience ago. Of one that
// Context has returned, it is that one. The function releases what it holds.
func Context(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() == nil || ctx.Value(key{}) != nil {
		return ctx, func() {}
	}
	patient, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, true))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(Patience, cancel) })
	return patient, func() { stop(); cancel() }
}

// Wait returns when ready is closed, or unix.EINTR when ctx ended Patience ago.
func Wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	if Over(ctx) {
		return unix.EINTR
	}
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-timer.C:
		return unix.EINTR
	}
}

// Over says whether the request of ctx has been answered with EINTR: what it
// has not begun yet must not happen any more.
func Over(ctx context.Context) bool {
	return ctx.Value(key{}) != nil && ctx.Err() != nil
}

// Do runs do, and returns unix.EINTR when ctx ends before it does. The context
// that do gets tells it, by Over. What do returns goes to late then, which may be
// nil. do must hold nothing that its caller uses again after that. A panic of do
// is one of Do, with the stack where it began, as long as there is somebody to
// see it.
func Do[T any](ctx context.Context, do func(context.Context) (T, error), late func(T, error)) (T, error) {
	if ctx.Done() == nil {
		return do(ctx)
	}
	patient, release := Context(ctx)
	done := make(chan result[T]) // taken by one of the two who select on it
	go func() {
		r := call(patient, do)
		select {
		case done <- r:
			return
		case <-patient.Done():
		}
		switch {
		case r.panicked != nil:
			panic(r.panicked)
		case late != nil:
			late(r.v, r.err)
		}
	}()
	select {
	case r := <-done:
		release()
		if r.panicked != nil {
			panic(r.panicked)
		}
		return r.v, r.err
	case <-patient.Done():
		release()
		var none T
		return none, unix.EINTR
	}
}

// result is what do returned, or its panic.
type result[T any] struct {
	v        T
	err      error
	panicked any
}

func call[T any](ctx context.Context, do func(context.Context) (T, error)) (r result[T]) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	r.v, r.err = do(ctx)
	return r
}

package patience

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDoReturnsWhatItIsGiven(t *testing.T) {
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		n, err := Do(ctx, func(ctx context.Context) (int, error) {
			if Over(ctx) {
				t.Error("over before it began")
			}
			return 7, unix.ENOSPC
		}, func(int, error) { t.Error("late") })
		if n != 7 || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// TestDoWaitsPatiently: an interrupted request that ends soon is not seen to
// have been interrupted.
func TestDoWaitsPatiently(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := Do(ctx, func(context.Context) (int, error) {
		time.Sleep(Patience / 10)
		return 7, nil
	}, nil)
	if n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestDoGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	goOn, late := make(chan struct{}), make(chan int, 1)
	begin := time.Now()
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := Do(ctx, func(ctx context.Context) (int, error) {
		<-goOn
		if !Over(ctx) {
			t.Error("what goes on does not know that nobody waits")
		}
		return 7, nil
	}, func(n int, _ error) { late <- n })
	if !errors.Is(err, unix.EINTR) || time.Since(begin) < Patience {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	close(goOn)
	if n := <-late; n != 7 {
		t.Errorf("late result %d", n)
	}
}

// TestContextOfContext: what is called with a patient context waits no longer
// than its caller.
func TestContextOfContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	patient, release := Context(ctx)
	defer release()
	inner, releaseInner := Context(patient)
	releaseInner()
	if inner != patient || inner.Err() != nil {
		t.Error("it is not the same, or has ended")
	}
	cancel()
	<-inner.Done()
}

// TestDoPanics: whoever serves a request sees its panic, and goes on.
func TestDoPanics(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "a mistake") || !strings.Contains(p, "TestDoPanics") {
			t.Errorf("it panics with %s", p)
		}
	}()
	_, _ = Do(t.Context(), func(context.Context) (int, error) { panic("a mistake") }, nil)
}

func TestWait(t *testing.T) {
	open, closed := make(chan struct{}), make(chan struct{})
	close(closed)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{context.Background(), t.Context(), over} {
		if err := Wait(ctx, closed); err != nil {
			t.Errorf("%v, and it was ready", err)
		}
	}
	begin := time.Now()
	if err := Wait(over, open); !errors.Is(err, unix.EINTR) || time.Since(begin) < Patience {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	late := make(chan struct{})
	time.AfterFunc(Patience/10, func() { close(late) })
	if err := Wait(over, late); err != nil {
		t.Errorf("%v, and it was ready soon", err)
	}
}

// TestWaitIsPatientOnce: a request whose patience is over waits no more.
func TestWaitIsPatientOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	patient, release := Context(ctx)
	defer release()
	<-patient.Done()
	begin := time.Now()
	if err := Wait(patient, make(chan struct{})); !errors.Is(err, unix.EINTR) || time.Since(begin) > Patience/2 {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

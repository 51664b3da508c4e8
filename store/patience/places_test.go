package patience

import (
	"testing"
	"time"
)

// TestPlaces: there are so many places. Who gets none goes on after a while, and
// has none to give back.
func TestPlaces(t *testing.T) {
	p, n := NewPlaces(3), 0
	for ; !p.Full(); n++ {
		if !p.Enter() {
			t.Fatal("a place that is free is not to be had")
		}
	}
	if n != cap(p) {
		t.Errorf("%d of %d places are taken", n, cap(p))
	}
	begin := time.Now()
	if p.Enter() {
		t.Error("there is one more place than there are")
	}
	if d := time.Since(begin); d < Moment {
		t.Errorf("all places are taken, and it waits %v", d)
	}
	if !p.Full() {
		t.Error("who had no place has given one back")
	}
	time.AfterFunc(Moment/10, p.Leave)
	if !p.Enter() {
		t.Error("it does not get the place that was given back")
	}
	for range n {
		p.Leave()
	}
	if len(p) != 0 {
		t.Errorf("%d places are still taken", len(p))
	}
}

// TestNoPlaces: where there are none, nobody waits for any.
func TestNoPlaces(t *testing.T) {
	begin := time.Now()
	if NewPlaces(0).Enter() {
		t.Error("there is one")
	}
	if d := time.Since(begin); d > Moment/2 {
		t.Errorf("it waits %v", d)
	}
}

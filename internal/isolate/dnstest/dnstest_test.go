package dnstest

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"
)

func TestANameServerAnswersAsItIsTold(t *testing.T) {
	s := Start(t)
	r := s.Resolver()
	look := func(name string) ([]string, *net.DNSError) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		addresses, err := r.LookupHost(ctx, name)
		failure := new(net.DNSError)
		if err != nil && !errors.As(err, &failure) {
			t.Fatal(err)
		}
		slices.Sort(addresses)
		return addresses, failure
	}
	s.Set("one.test", "10.0.0.1", "10.0.0.2")
	if got, _ := look("One.test"); !slices.Equal(got, []string{"10.0.0.1", "10.0.0.2"}) {
		t.Errorf("one.test is %v", got)
	}
	if got, err := look("two.test"); !err.IsNotFound {
		t.Errorf("two.test is %v, %v", got, err)
	}
	s.Set("", "127.0.0.1")
	if got, _ := look("two.test"); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("two.test is %v", got)
	}
	for how, is := range map[How]func(*net.DNSError) bool{
		Silent:       func(e *net.DNSError) bool { return e.IsTimeout },
		Failing:      func(e *net.DNSError) bool { return e.IsTemporary && !e.IsNotFound },
		KnowsNothing: func(e *net.DNSError) bool { return e.IsNotFound },
	} {
		s.Be(how)
		if got, err := look("one.test"); !is(err) {
			t.Errorf("%d: %v, %v", how, got, err)
		}
	}
}

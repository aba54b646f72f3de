package cpu

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/support/backendtest"
)

// open opens a backend for a test.
func open(t testing.TB, config string) *Backend {
	t.Helper()
	opened, err := compute.NewWithConfig(Name + ":" + config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Finalize)
	return opened.(*Backend)
}

// TestCompliance runs upstream's suite: every operation that its own Go backend has.
func TestCompliance(t *testing.T) {
	backendtest.RunAll(t, open(t, ""), nil)
}

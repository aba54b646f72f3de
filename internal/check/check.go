// Package check holds what the tests of every package share: a backend, the -long switch, and a comparison that says
// where two arrays differ and by how much.
//
// Nothing here is safe to call from several goroutines of one test, except as testing.TB itself allows.
package check

import (
	"flag"
	"fmt"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend"
)

// LongEnv is the environment variable that does what -long does, for `go test ./...`: the flag itself is refused by
// packages whose tests do not import this one.
const LongEnv = "POLAR_LONG"

var long = flag.Bool("long", false, "run the slow tests as well (or set "+LongEnv+"=1)")

// Long skips the test unless -long was given or POLAR_LONG is set to something other than 0.
func Long(t testing.TB) {
	t.Helper()
	if env := os.Getenv(LongEnv); !*long && (env == "" || env == "0") {
		t.Skip("slow: run with -long")
	}
}

var shared struct {
	once    sync.Once
	backend compute.Backend
	err     error
}

// Backend returns the backend that this process's tests share: $GOMLX_BACKEND, else Polar's default. A backend that
// cannot be opened fails the test.
func Backend(t testing.TB) compute.Backend {
	t.Helper()
	shared.once.Do(func() { shared.backend, shared.err = backend.Open("") })
	if shared.err != nil {
		t.Fatalf("open the tests' backend: %v", shared.err)
	}
	return shared.backend
}

// Close fails the test (and lets it go on) unless |got-want| <= tol·‖want‖ in the Euclidean norm and no element is NaN.
// Infinities are close only to themselves, zero only to zero. The failure prints the worst element and the ratio to tol.
func Close[T float32 | float64](t testing.TB, name string, got, want []T, tol float64) {
	t.Helper()
	if problem := Compare(got, want, tol); problem != "" {
		t.Errorf("%s: %s", name, problem)
	}
}

// Compare is the rule of Close as text: "" if got is close to want, else what differs.
func Compare[T float32 | float64](got, want []T, tol float64) string {
	if len(got) != len(want) {
		return fmt.Sprintf("got %d elements, want %d", len(got), len(want))
	}
	var distance, norm, worst float64
	at := 0
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		if math.IsNaN(g) || math.IsNaN(w) {
			return fmt.Sprintf("[%d] got %v, want %v: NaN is close to nothing", i, g, w)
		}
		if math.IsInf(g, 0) || math.IsInf(w, 0) {
			if g != w {
				return fmt.Sprintf("[%d] got %v, want %v", i, g, w)
			}
			continue
		}
		distance, norm = math.Hypot(distance, g-w), math.Hypot(norm, w)
		if d := math.Abs(g - w); d > worst {
			worst, at = d, i
		}
	}
	if distance <= tol*norm {
		return ""
	}
	relative := distance / norm // +Inf where want is zero
	return fmt.Sprintf("relative error %.3g, %.3g times the tolerance %.3g; worst at [%d]: got %v, want %v",
		relative, relative/tol, tol, at, got[at], want[at])
}

// Relative returns ‖got-want‖/‖want‖ in the Euclidean norm: NaN if any element is, 0 for equal arrays, +Inf if only want
// is zero.
func Relative[T float32 | float64](got, want []T) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var distance, norm float64
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		distance, norm = math.Hypot(distance, g-w), math.Hypot(norm, w)
	}
	if distance == 0 {
		return 0
	}
	return distance / norm
}

// Package backend opens a compute.Backend by name. It is the only package of Polar that knows which backends exist, and
// it refuses settings that are known to hang.
package backend

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"   // registers "go"
	_ "github.com/polargo/polar/backend/cpu" // registers "polar"
	"github.com/polargo/polar/internal/graphx"
)

// Default is the backend used when neither a flag nor GOMLX_BACKEND names one: GoMLX's portable Go backend with its
// operations run one after another, in the order in which they were built. Its own default runs them at once and hangs. Its
// own order, longest path first, computes the same bits but leaves the gradients of adapters to the end, and keeps every
// activation they need until then: 0.6 GB more at the peak of fine-tuning SmolLM2-135M (rank 16, 4 rows of 256 tokens).
const Default = "go:ops_sequential,creation_order"

// EnvVar is the environment variable of GoMLX that names a backend.
const EnvVar = compute.ConfigEnvVar

// Name resolves the backend's name: name itself, else $GOMLX_BACKEND, else Default. "go" and "go:ops_sequential" mean Default;
// "go:ops_sequential,dependency_order" asks for the engine's own order.
func Name(name string) string {
	if name == "" {
		name = os.Getenv(EnvVar)
	}
	switch name {
	case "", "go", "go:ops_sequential":
		return Default
	}
	return name
}

// Open opens the backend called name ("" for the default): "go:ops_sequential", "xla:cpu", "xla:cuda", and so on, as
// "kind:settings". It never downloads anything. It returns an error for an unknown kind, listing those compiled in, and
// for settings of the Go backend that hang.
func Open(name string) (compute.Backend, error) {
	name = Name(name)
	kind, settings, _ := strings.Cut(name, ":")
	known := compute.List()
	if !slices.Contains(known, kind) {
		slices.Sort(known)
		hint := ""
		if kind == "xla" {
			hint = "; build with -tags xla (needs a C compiler) to include XLA"
		}
		return nil, fmt.Errorf("unknown backend %q: this program has %s%s", name, strings.Join(known, ", "), hint)
	}
	if kind == "go" && !slices.Contains(strings.Split(settings, ","), "ops_sequential") {
		return nil, fmt.Errorf("backend %q can hang: its operations wait for each other's workers; use %q", name, Default)
	}
	opened, err := graphx.Try1(func() (compute.Backend, error) { return compute.NewWithConfig(name) })
	if err != nil {
		return nil, fmt.Errorf("open backend %q: %w", name, err)
	}
	return opened, nil
}

// Package backend opens a compute.Backend by name. It is the only package of Polar that knows which backends exist, and
// it refuses settings that are known to hang.
package backend

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // registers "go"
	"github.com/polargo/polar/backend/cpu" // registers "polar"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/internal/graphx"
)

// Default is the backend used when neither a flag nor GOMLX_BACKEND names one: Polar's own for processors (backend/cpu).
const Default = cpu.Name

// Portable is what "go" means: GoMLX's portable Go backend with its operations run one after another, in the order in which they
// were built. Its own default runs them at once and hangs. Its own order, longest path first, computes the same bits but leaves
// the gradients of adapters to the end, and keeps every activation they need until then: 0.6 GB more at the peak of fine-tuning
// SmolLM2-135M (rank 16, 4 rows of 256 tokens).
const Portable = "go:ops_sequential,creation_order"

// EnvVar is the environment variable of GoMLX that names a backend.
const EnvVar = compute.ConfigEnvVar

// Name resolves the backend's name: name itself, else $GOMLX_BACKEND, else Default. "go" and "go:ops_sequential" mean Portable;
// "go:ops_sequential,dependency_order" asks for the engine's own order.
func Name(name string) string {
	if name == "" {
		name = os.Getenv(EnvVar)
	}
	switch name {
	case "":
		return Default
	case "go", "go:ops_sequential":
		return Portable
	}
	return name
}

// Instructions says with what a backend (a name as for Open) computes matrix products on this processor: "avx512", "avx2" or "generic"
// for Polar's own; for GoMLX's Go backend "simd" or, built without GOEXPERIMENT=simd or not for amd64, "scalar"; "" for others,
// and where the name or $POLAR_CPU is wrong.
func Instructions(name string) string {
	switch kind, settings, _ := strings.Cut(Name(name), ":"); kind {
	case cpu.Name:
		if level, err := feature.Parse(os.Getenv(cpu.LevelEnvVar)); err == nil {
			return level.String()
		}
	case "go":
		if !slices.Contains(strings.Split(settings, ","), "ops_sequential") {
			return "" // refused by Open
		}
		if simd {
			return "simd"
		}
		return "scalar"
	}
	return ""
}

// Slow says whether a backend computes products without vector instructions.
func Slow(name string) bool {
	instructions := Instructions(name)
	return instructions == "scalar" || instructions == feature.Generic.String()
}

// Open opens the backend called name ("" for the default): "polar", "go", "xla:cpu", "xla:cuda", and so on, as
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
		return nil, fmt.Errorf("backend %q can hang: its operations wait for each other's workers; use %q", name, Portable)
	}
	opened, err := graphx.Try1(func() (compute.Backend, error) { return compute.NewWithConfig(name) })
	if err != nil {
		return nil, fmt.Errorf("open backend %q: %w", name, err)
	}
	return opened, nil
}

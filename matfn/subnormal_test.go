package matfn

import (
	"math"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/internal/check"
)

// TestSubnormal gives all functions matrices below the normal numbers of their type, whose reciprocals are infinite. A multiplier
// that decays from step to step gets there. Nothing may become NaN, and clips that do not act leave their input.
func TestSubnormal(t *testing.T) {
	const tol = 1e-3 // the scaled matrix is in full precision, the result in what a subnormal number has: 1e-42 is 714 units
	for _, scale := range []float32{1e-37, 2e-38, 1e-38, 2e-39, 1e-42} {
		flat := []float32{3 * scale, scale, scale, -2 * scale}
		x := tensors.FromFlatDataAndDimensions(flat, 2, 2)
		for name, fn := range functions {
			if strings.HasPrefix(name, "InvSqrt") {
				continue // its results would not be finite, and x is not positive semidefinite
			}
			for _, v := range tensors.MustCopyFlatData[float32](MustExecOnce(check.Backend(t), fn, x)) {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					t.Errorf("%s at %g: %v", name, scale, v)
				}
			}
		}
		for name, fn := range map[string]func(*Node) *Node{
			"SpectralHardcap": func(x *Node) *Node { return SpectralHardcap(x, 1) },
			"EigClip":         func(x *Node) *Node { return EigClip(x, -1, 1) },
		} {
			got := tensors.MustCopyFlatData[float32](MustExecOnce(check.Backend(t), fn, x))
			for i, v := range got {
				if math.Abs(float64(v-flat[i])) > tol*float64(3*scale)+math.SmallestNonzeroFloat32*2 {
					t.Errorf("%s at %g changed %v into %v", name, scale, flat, got)
					break
				}
			}
		}
	}
}

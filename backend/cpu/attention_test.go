package cpu_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/polargo/polar/backend"
)

// TestAttentionMaskAxes: a mask of four axes lies as the queries do, in both layouts: GoMLX's attention gives the same with the
// backend's operation and with the operations that attention is made of. There are as many heads as queries, so that a mask
// read in the other order fits too.
func TestAttentionMaskAxes(t *testing.T) {
	const batch, length, heads, dim = 2, 4, 4, 8
	opened, err := backend.Open("polar")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Finalize()
	for _, layout := range []attention.AxesLayout{attention.LayoutBHSD, attention.LayoutBSHD} {
		for _, axes := range [][]int{{batch, length, 1, length}, {1, 1, heads, length}, {batch, length, heads, length}} {
			out := MustExecOnceN(opened, func(g *Graph) []*Node {
				x := Sin(MulScalar(Iota(g, shapes.Make(dtypes.Float32, batch*length*heads*dim, 1), 0), 1.7))
				x = Reshape(x, batch, length, heads, dim)
				n := axes[0] * axes[1] * axes[2] * axes[3]
				mask := GreaterThan(Sin(MulScalar(Iota(g, shapes.Make(dtypes.Float32, n, 1), 0), 2.3)), Scalar(g, dtypes.Float32, -0.6))
				attend := func(plain bool) *Node {
					y, _ := attention.Core(x, AddScalar(x, 0.1), Cos(x), layout, attention.CoreOptions{
						AttentionMask: Reshape(mask, axes...), DisableFusion: plain,
					})
					return y
				}
				return []*Node{attend(false), attend(true)}
			})
			got, want := tensors.MustCopyFlatData[float32](out[0]), tensors.MustCopyFlatData[float32](out[1])
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-6 {
					t.Fatalf("layout %v, mask %v: [%d] is %g, want %g", layout, axes, i, got[i], want[i])
				}
			}
		}
	}
}

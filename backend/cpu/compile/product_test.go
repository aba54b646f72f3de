package compile

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/program"
	"github.com/polargo/polar/backend/cpu/team"
)

// multiplied records f(x)·y for x [3, 4] and y [4, 2], compiles and runs it.
func multiplied(t *testing.T, x, y *ir.Node, nodes, params []*ir.Node, inputs ...[]float32) []float32 {
	t.Helper()
	product := &ir.Node{Op: compute.OpTypeDotGeneral, Inputs: []*ir.Node{x, y}, Shapes: []shapes.Shape{shapes.Make(dtypes.Float32, 3, 2)},
		Attrs: ir.DotGeneralAttrs{LeftContracting: []int{1}, RightContracting: []int{0}}}
	f := &ir.Function{Name: "main", Nodes: append(nodes, product), Params: params, Outputs: []*ir.Node{product}}
	p, err := Compile(f, Options{Level: feature.Detected()})
	if err != nil {
		t.Fatal(err)
	}
	workers := team.New(1)
	defer workers.Close()
	in := make([][]byte, len(inputs))
	for i, flat := range inputs {
		in[i] = flatBytes(flat)
	}
	out := make([]float32, 6)
	if err := p.Run(program.NewEngine(workers, feature.Detected(), nil), in, [][]byte{flatBytes(out)}); err != nil {
		t.Fatal(err)
	}
	return out
}

func parameter(index int, dims ...int) *ir.Node {
	return &ir.Node{Op: compute.OpTypeParameter, Shapes: []shapes.Shape{shapes.Make(dtypes.Float32, dims...)}, Attrs: ir.ParameterAttrs{Index: index}}
}

// TestProductOfReversed: the matrix kernels take no negative strides, so a reversed operand is copied.
func TestProductOfReversed(t *testing.T) {
	x, y := parameter(0, 3, 4), parameter(1, 4, 2)
	reversed := &ir.Node{Op: compute.OpTypeReverse, Inputs: []*ir.Node{x}, Shapes: x.Shapes, Attrs: ir.AxesAttrs{Axes: []int{1}}}
	a := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	b := []float32{1, 0, 0, 1, 2, 0, 0, 3}
	got := multiplied(t, reversed, y, []*ir.Node{x, y, reversed}, []*ir.Node{x, y}, a, b)
	for i, want := range []float32{4 + 2*2, 3 + 3*1, 8 + 2*6, 7 + 3*5, 12 + 2*10, 11 + 3*9} {
		if got[i] != want {
			t.Fatalf("got %v, want %g at %d", got, want, i)
		}
	}
}

// TestProductByConstant: a product by a constant matrix of one number is that number times a sum only where this gives what the
// terms give. Terms of one sign and another that are each infinite give NaN, which infinity times their sum does not.
func TestProductByConstant(t *testing.T) {
	for _, test := range []struct {
		constant float32
		row      [4]float32
		want     float64
	}{
		{2, [4]float32{1, 2, 3, 4}, 20},
		{float32(math.Inf(1)), [4]float32{1, -2, 3, 4}, math.NaN()},
		{0x1p-30, [4]float32{math.MaxFloat32, math.MaxFloat32, 0, 0}, 2 * float64(math.MaxFloat32) * 0x1p-30},
	} {
		x := parameter(0, 3, 4)
		scalar := &ir.Node{Op: compute.OpTypeConstant, Shapes: []shapes.Shape{shapes.Make(dtypes.Float32)}, Attrs: ir.ConstantAttrs{Flat: []float32{test.constant}}}
		y := &ir.Node{Op: compute.OpTypeBroadcastInDim, Inputs: []*ir.Node{scalar}, Shapes: []shapes.Shape{shapes.Make(dtypes.Float32, 4, 2)}, Attrs: ir.BroadcastAttrs{}}
		a := make([]float32, 12)
		copy(a, test.row[:])
		got := float64(multiplied(t, x, y, []*ir.Node{x, scalar, y}, []*ir.Node{x}, a)[0])
		if got != test.want && !(math.IsNaN(got) && math.IsNaN(test.want)) {
			t.Errorf("%v times %g everywhere is %g, want %g", test.row, test.constant, got, test.want)
		}
	}
}

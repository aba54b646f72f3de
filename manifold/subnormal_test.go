package manifold

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/internal/check"
)

// TestSubnormalMultiplier starts solvers from a multiplier below the normal numbers, to which one decays when no bound is in the
// way for a while: the direction must stay finite and of norm one.
func TestSubnormalMultiplier(t *testing.T) {
	tensor := func(values ...float32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(values, 1, 2, 8) }
	// Seen in a training: the first row of a column of weights that get no gradient, and what two steps left of a multiplier.
	w := tensor(0.179919928, -0.05344584, -0.22387178, -0.59401268, -0.58656174, -0.16645902, 0.3574329, 0.21241236,
		0.25383266, 0.13249496, 0.67982304, -0.31556814, 0.14760236, 0.30531984, 0.30688452, -0.3317672)
	g := tensor(-0.049947042, 0.0031498596, 0.079074174, -0.008585598, 0.020659745, 0.07447368, -0.004670441, 0,
		0.058668103, 0.043896727, -0.060687754, 0.03054259, -0.015747685, -0.0049975216, 0.06675416, 0)
	direction := tensor(0.41269687, -0.03426527, -0.60302484, 0.18721008, 0.10655335, -0.60669804, -0.22442041, 9.448e-42,
		-0.37568673, -0.4857164, 0.22819199, -0.33904344, -0.18873928, -0.4046834, -0.5067837, -3.677e-42)
	multiplier := tensor(0, 0, 0, 0, 0, 0, 0, -8.776e-42, 0, 0, 0, 0, 0, 0, 0, 6.545e-42)
	for _, solver := range []Solver{{Name: PDHG, Norm: Spectral}, {Name: Dual, Norm: Spectral}, {Name: PDHG, Norm: Frobenius}} {
		out := MustExecOnceN(check.Backend(t), func(nodes []*Node) []*Node {
			start := []*Node{nodes[3]}
			if solver.Memory() == 2 {
				start = nodes[2:]
			}
			d, next := solver.Direction(Set{Name: Ball, Radius: 1}, nodes[0], nodes[1], start)
			return append([]*Node{d}, next...)
		}, w, g, direction, multiplier)
		total := 0.0
		for _, x := range out {
			for _, v := range tensors.MustCopyFlatData[float32](x) {
				total += float64(v) * float64(v)
			}
		}
		if math.IsNaN(total) || math.IsInf(total, 0) || total < 0.5 {
			t.Errorf("%+v: %v", solver, out)
		}
	}
}

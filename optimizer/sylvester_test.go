package optimizer

import (
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// solveSylvester returns the solutions of a z + z b = c, and after each the solution for what is left is added.
func solveSylvester(t *testing.T, a, b, c *mat.Dense, exact bool, times int) (solutions []*mat.Dense) {
	t.Helper()
	dtype := Config{Exact: exact}.dtype()
	left, p, q := c, a.RawMatrix().Rows, b.RawMatrix().Rows
	z := mat.NewDense(p, q, nil)
	for range times {
		var in []any
		for _, x := range []*mat.Dense{a, b, left} {
			rows, cols := x.Dims()
			in = append(in, tensors.FromFlatDataAndDimensions(mat.DenseCopyOf(x).RawMatrix().Data, 1, rows, cols))
		}
		out, err := CallOnce(check.Backend(t), func(a, b, c *Node) *Node {
			return ConvertDType(sylvester(ConvertDType(a, dtype), ConvertDType(b, dtype), ConvertDType(c, dtype)), dtypes.Float64)
		}, in...)
		if err != nil {
			t.Fatal(err)
		}
		z = add(z, mat.NewDense(p, q, tensors.MustCopyFlatData[float64](out)))
		solutions = append(solutions, z)
		left = sub(c, add(mul(a, z), mul(z, b)))
	}
	return solutions
}

// TestSylvester solves equations whose right side the constraints of steps can give, of full and of lower rank, with one side zero,
// and improves the solutions by solving for what is left.
func TestSylvester(t *testing.T) {
	// What one solution leaves of the right side, and what three do: the shift over the smallest eigenvalue, at condition number
	// 1e4, and that to the third power. Worst here 2.4e-4 and 7.6e-8, 2.4e-10 and 2.3e-15.
	limits := map[bool][2]float64{false: {1e-3, 1e-6}, true: {1e-9, 1e-13}}
	for _, exact := range []bool{false, true} {
		worst := [2]float64{}
		for i, c := range []struct {
			p, q, r      int
			condA, condB float64
		}{{1, 1, 1, 1, 1}, {4, 6, 8, 10, 1}, {8, 8, 8, 100, 100}, {16, 16, 16, 10, 100}, {12, 9, 4, 10, 10}, {8, 9, 4, 10, 0}, {9, 3, 4, 0, 30}} {
			factor := func(seed, rows int, cond float64) *mat.Dense {
				if cond == 0 {
					return mat.NewDense(c.r, rows, nil)
				}
				return must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed), c.r, rows, cond))
			}
			x, y := factor(2*i, c.p, c.condA), factor(2*i+1, c.q, c.condB)
			rng := random(i, 1)
			right := add(mul(x.T(), gaussian(rng, c.r, c.q)), mul(gaussian(rng, c.p, c.r), y))
			a, b := mul(x.T(), x), mul(y.T(), y)
			solutions := solveSylvester(t, a, b, right, exact, 3)
			if doubled := scaled(2, solutions[0]); !(relative(add(mul(a, doubled), mul(doubled, b)), right) > 0.5) {
				t.Errorf("%+v: twice the solution passes", c)
			}
			for j, z := range []*mat.Dense{solutions[0], solutions[2]} {
				e := relative(add(mul(a, z), mul(z, b)), right)
				worst[j] = max(worst[j], e)
				if !(e <= limits[exact][j]) {
					t.Errorf("%+v, exact %v: %.1e left, want at most %g", c, exact, e, limits[exact][j])
				}
			}
			t.Logf("%+v %.1e", c, worst)
		}
		t.Logf("exact %v: %.1e left by one solution, %.1e by three", exact, worst[0], worst[1])
	}
}

package manifold

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// stored is a problem of testdata/reference.json, whose head says how its optimum was computed.
type stored struct {
	Name, Set, Norm string
	Lo, Hi          float64
	M, N            int
	W, G            []float64
	Optimum         float64
}

func (p stored) set() Set {
	switch p.Set {
	case Ball:
		return Set{Name: Ball, Radius: p.Hi}
	case Spectrahedron, Band:
		return Set{Name: p.Set, Lo: p.Lo, Hi: p.Hi}
	}
	return Set{Name: p.Set}
}

func (p stored) w() *mat.Dense { return mat.NewDense(p.M, p.N, p.W) }
func (p stored) g() *mat.Dense { return mat.NewDense(p.M, p.N, p.G) }

// references reads the stored problems, in batches of one set, norm and shape.
func references(t testing.TB) (batches [][]stored) {
	t.Helper()
	text, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Problems []stored }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	index := map[string]int{}
	for _, p := range file.Problems {
		key := fmt.Sprint(p.set(), p.Norm, p.M, p.N)
		at, seen := index[key]
		if !seen {
			at = len(batches)
			index[key] = at
			batches = append(batches, nil)
		}
		batches[at] = append(batches[at], p)
	}
	return batches
}

// solve returns the directions that a solver finds for a batch of problems.
func solve(t testing.TB, p precision, s Solver, problems []stored) []*mat.Dense {
	t.Helper()
	var ws, gs []*mat.Dense
	for _, problem := range problems {
		ws, gs = append(ws, problem.w()), append(gs, problem.g())
	}
	exec := must[*Exec](t)(NewExec(check.Backend(t), func(w, g *Node) *Node {
		d, _ := s.Direction(problems[0].set(), w, g, nil, p.opts...)
		return d
	}))
	defer exec.Finalize()
	out := must[*tensors.Tensor](t)(exec.Call1(p.tensor(ws...), p.tensor(gs...)))
	size := problems[0].M * problems[0].N
	var ds []*mat.Dense
	for i := range problems {
		if p.double {
			ds = append(ds, mat.NewDense(problems[0].M, problems[0].N, tensors.MustCopyFlatData[float64](out)[i*size:(i+1)*size]))
			continue
		}
		flat := tensors.MustCopyFlatData[float32](out)
		ds = append(ds, must[*mat.Dense](t)(oracle.FromFloat32(flat[i*size:(i+1)*size], problems[0].M, problems[0].N)))
	}
	return ds
}

// quality is how good a direction is.
type quality struct {
	value  float64 // <G, D> as a part of the optimum; more than one is possible outside the cone
	usable float64 // the same of what is left in the cone, scaled down to norm one if it is larger
	off    float64 // ‖D - proj D‖/‖D‖, what the retraction will throw away
	norm   float64
}

func judge(t testing.TB, p stored, d *mat.Dense) quality {
	t.Helper()
	inside := must[*mat.Dense](t)(oracleTangentRelative(p.set(), p.w(), d))
	size := func(x *mat.Dense) float64 {
		if p.Norm == Frobenius {
			return norm(x)
		}
		return must[float64](t)(oracle.SpectralNorm(x))
	}
	return quality{
		value:  dot(p.g(), d) / p.Optimum,
		usable: dot(p.g(), inside) / max(1, size(inside)) / p.Optimum,
		off:    norm(sub(d, inside)) / norm(d),
		norm:   size(d),
	}
}

// oracleTangentRelative is oracleTangent with the tolerance that Set.Tangent has.
func oracleTangentRelative(s Set, w, x *mat.Dense) (*mat.Dense, error) {
	tol := DefaultTol
	switch s.Name {
	case PSD:
		largest, err := oracle.SpectralNorm(w)
		if err != nil {
			return nil, err
		}
		tol *= largest
	case Spectrahedron:
		tol *= s.Hi - s.Lo
	}
	return oracleTangent(s, w, x, tol)
}

// TestOptimum holds the solvers against the optima that a generic convex solver found.
func TestOptimum(t *testing.T) {
	for _, solver := range []string{PDHG, Dual} {
		t.Run(solver, func(t *testing.T) {
			worst := quality{value: 1, usable: 1}
			for _, problems := range references(t) {
				for i, d := range solve(t, single, Solver{Name: solver, Norm: problems[0].Norm}, problems) {
					q := judge(t, problems[i], d)
					if !(q.value >= 0.99 && q.value <= 1.01 && q.usable >= 0.99 && q.norm <= 1.001) {
						t.Errorf("%s: %+v", problems[i].Name, q)
					}
					if math.Abs(q.value-1) > math.Abs(worst.value-1) {
						worst.value = q.value
					}
					worst.usable, worst.off, worst.norm = min(worst.usable, q.usable), max(worst.off, q.off), max(worst.norm, q.norm)
				}
			}
			t.Logf("worst %+v", worst)
		})
	}
}

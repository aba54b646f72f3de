package manifold

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
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

// judged remembers what solveAll found.
var judged = map[Solver]map[string]quality{}

// solveAll returns the quality of what a solver, given without a norm, finds for each stored problem, in float32.
func solveAll(t testing.TB, s Solver) map[string]quality {
	t.Helper()
	if judged[s] != nil {
		return judged[s]
	}
	found := map[string]quality{}
	for _, problems := range references(t) {
		with := s
		with.Norm = problems[0].Norm
		for i, d := range solve(t, single, with, problems) {
			found[problems[i].Name] = judge(t, problems[i], d)
		}
	}
	judged[s] = found
	return found
}

// TestOptimum holds the solvers against the optima that a generic convex solver found.
func TestOptimum(t *testing.T) {
	for _, solver := range []string{PDHG, Dual} {
		t.Run(solver, func(t *testing.T) {
			worst := quality{value: 1, usable: 1}
			for name, q := range solveAll(t, Solver{Name: solver}) {
				if !(q.value >= 0.99 && q.value <= 1.01 && q.usable >= 0.99 && q.norm <= 1.001) {
					t.Errorf("%s: %+v", name, q)
				}
				if math.Abs(q.value-1) > math.Abs(worst.value-1) {
					worst.value = q.value
				}
				worst.usable, worst.off, worst.norm = min(worst.usable, q.usable), max(worst.off, q.off), max(worst.norm, q.norm)
			}
			t.Logf("worst %+v", worst)
		})
	}
}

// TestDualBound holds directions on larger problems, which no generic solver saw, against the bound that the multipliers prove:
// no direction is better than -‖G + N‖ in the dual norm, for any N in the normal cone.
func TestDualBound(t *testing.T) {
	// Of ‖G‖ in the dual norm, which is what a direction would reach without the set, a part that may be short of the bound. Part of
	// it is the bound's own; the worst here were 0.008 and 0.012.
	tolerances := map[string]float64{PDHG: 0.01, Dual: 0.015}
	shapes := [][2]int{{24, 24}}
	worst := map[string]float64{}
	for _, shape := range shapes {
		for i, m := range members(t, shape[0], shape[1]) {
			if m.name == "inside" || m.name == "lower" {
				continue
			}
			g := oracle.Gaussian(uint64(100+i), shape[0], shape[1])
			if i%2 == 1 { // wants to leave
				g = sub(scaled(0.5, g), scaled(8/norm(m.w), m.w))
			}
			g = scaled(math.Sqrt(float64(min(shape[0], shape[1])))/norm(inSpace(m.set, g)), inSpace(m.set, g))
			for solver, tol := range tolerances {
				s := Solver{Name: solver, Norm: Spectral}
				out := single.call(t, func(in []*Node) []*Node {
					d, next := s.Direction(m.set, in[0], in[1], nil)
					return []*Node{d, next[len(next)-1]}
				}, m.w, g)
				n := inSpace(m.set, mat.NewDense(shape[0], shape[1], out[1]))
				n = sub(n, must[*mat.Dense](t)(oracleTangentRelative(m.set, m.w, n)))
				bound := nuclear(t, add(g, n))
				d := mat.NewDense(shape[0], shape[1], out[0])
				inside := must[*mat.Dense](t)(oracleTangentRelative(m.set, m.w, d))
				short := (bound + dot(g, inside)/max(1, must[float64](t)(oracle.SpectralNorm(inside)))) / nuclear(t, g)
				if !(short >= -1e-5 && short <= tol) {
					t.Errorf("%s %s: %.4f of the dual norm short of the bound, want at most %g", solver, m, short, tol)
				}
				worst[solver] = max(worst[solver], short)
			}
		}
	}
	t.Logf("worst %v", worst)
}

// inSpace is the symmetric part of x for a set of symmetric matrices, else x.
func inSpace(s Set, x *mat.Dense) *mat.Dense {
	if s.Symmetric() {
		return scaled(0.5, add(x, mat.DenseCopyOf(x.T())))
	}
	return x
}

// nuclear is the sum of the singular values.
func nuclear(t testing.TB, x *mat.Dense) (total float64) {
	for _, sigma := range must[[]float64](t)(oracle.SingularValues(x)) {
		total += sigma
	}
	return total
}

// TestSolverTable logs what each solver loses against the optimum, by set, for the problems that the set restricts
// (bench/results/manifold-solvers.md), and holds what the table is for.
func TestSolverTable(t *testing.T) {
	columns := []Solver{{Name: Oracle}, {Name: Alternating, Steps: 1}, {Name: Alternating, Steps: 2}, {Name: Alternating, Steps: 4}, {Name: Alternating, Steps: 8}, {Name: PDHG}, {Name: Dual}}
	type cell struct{ sum, worst, off, count float64 }
	rows := map[string][]cell{}
	overall := make([]cell, len(columns))
	for _, problems := range references(t) {
		row := problems[0].Set + " " + problems[0].Norm
		if rows[row] == nil {
			rows[row] = make([]cell, len(columns))
		}
		for k, s := range columns {
			found := solveAll(t, s)
			for _, problem := range problems {
				q := found[problem.Name]
				if strings.Contains(problem.Name, "inside") {
					if !(q.usable >= 0.995) {
						t.Errorf("%s loses %.1f %% on %s, where nothing is in the way", s.Name, 100*(1-q.usable), problem.Name)
					}
					continue
				}
				for _, c := range []*cell{&rows[row][k], &overall[k]} {
					c.sum, c.worst, c.off, c.count = c.sum+1-q.usable, max(c.worst, 1-q.usable), c.off+q.off, c.count+1
				}
			}
		}
	}
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		line := fmt.Sprintf("| %s (%.0f)", row, rows[row][0].count)
		for _, c := range rows[row] {
			line += fmt.Sprintf(" | %.1f, %.1f", 100*c.sum/c.count, 100*c.worst)
		}
		t.Log(line + " |")
	}
	line := "| part of D outside of the cone"
	for _, c := range overall {
		line += fmt.Sprintf(" | %.3f", c.off/c.count)
	}
	t.Log(line + " |")
	mean := func(k int) float64 { return overall[k].sum / overall[k].count }
	if !(mean(0) > 2*mean(1) && mean(1) > mean(4) && mean(4) > mean(5) && mean(1) > 0.02) {
		t.Errorf("mean losses %v: want oracle far above alternating, which falls with its steps and stays above pdhg", overall)
	}
}

// TestPDHGIterations logs how many iterations the stored problems need, one at a time.
func TestPDHGIterations(t *testing.T) {
	var counts []float64
	for _, problems := range references(t) {
		for _, problem := range problems {
			out := single.call(t, func(in []*Node) []*Node {
				turn, _ := orient(problem.set(), in[0])
				p := newProblem(problem.set(), problem.Norm, turn(in[0]), turn(in[1]), true, nil)
				_, _, iterations := p.pdhg(DefaultSteps(PDHG), nil)
				return []*Node{iterations}
			}, problem.w(), problem.g())
			counts = append(counts, out[0][0])
		}
	}
	slices.Sort(counts)
	t.Logf("median %.0f, mean %.1f, most %.0f of at most %d", counts[len(counts)/2], floats.Sum(counts)/float64(len(counts)), counts[len(counts)-1], DefaultSteps(PDHG))
	if counts[len(counts)-1] >= float64(DefaultSteps(PDHG)) || counts[0] >= 10 {
		t.Errorf("iterations %v: want some to end soon and all before the limit", counts)
	}
}

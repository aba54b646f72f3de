package optimizer

import (
	"fmt"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// shampooSteps takes the gradients by the oracle and returns its last direction.
func shampooSteps(t *testing.T, o oracle.Shampoo, grads []*mat.Dense) *mat.Dense {
	t.Helper()
	var averages oracle.Averages
	var direction *mat.Dense
	for i, g := range grads {
		var err error
		if direction, averages, err = o.Direction(averages, g, i+1); err != nil {
			t.Fatal(err)
		}
	}
	return direction
}

// lastStep returns by how much the last of the gradients moves each value, its decay by the factor keep put back.
func lastStep(t *testing.T, cfg Config, values []value, grads [][]*mat.Dense, keep float64) []*mat.Dense {
	t.Helper()
	before, now := lastTwo(t, cfg, values, grads)
	var out []*mat.Dense
	for i, x := range now {
		out = append(out, sub(x, scaled(keep, before[i])))
	}
	return out
}

// lastTwo returns the values before and after the last of the gradients, all taken by one graph.
func lastTwo(t *testing.T, cfg Config, values []value, grads [][]*mat.Dense) (before, now []*mat.Dense) {
	t.Helper()
	store := newStore(t, values...)
	s := newStepper(t, store, mustNew(t, cfg), paths(values)...)
	for i, g := range grads {
		if i == len(grads)-1 {
			for _, v := range values {
				before = append(before, get(t, store, v.path))
			}
		}
		s.step(t, g...)
	}
	for _, v := range values {
		now = append(now, get(t, store, v.path))
	}
	return before, now
}

// TestShampooOracle holds the fourth step on dense matrices and on pairs against the oracle: both sides and one, averages and
// sums, Nesterov, exact steps.
func TestShampooOracle(t *testing.T) {
	// Float32: rounding of L and R, amplified by their inverse roots where they are weak, and the bias of InvSqrt's ridge; the
	// worst was 1.3e-3. Exact: the state's rounding, amplified in the directions that L does not have yet; 4.8e-6.
	tols := map[bool]float64{false: 5e-3, true: 5e-5}
	worst := map[bool]float64{}
	cases := 0
	for _, exact := range []bool{false, true} {
		for _, shape := range [][2]int{{24, 10}, {1, 9}} {
			for _, limit := range []int{0, 12} {
				if limit > 0 && (exact || shape[0] != 24) {
					continue
				}
				for _, c := range []struct {
					beta2    float64
					nesterov bool
				}{{0.9, false}, {0.9, true}, {1, false}, {0, false}} {
					cfg := setting(t, "shampoo", func(cfg *Config) {
						cfg.Exact, cfg.Beta2, cfg.Nesterov, cfg.MaxPreconditioned = exact, c.beta2, c.nesterov, limit
						cfg.LearningRate, cfg.WeightDecay = 1, 0.5
					})
					name := fmt.Sprintf("exact=%v/%v/limit%d/%v", exact, shape, limit, c)
					worst[exact] = max(worst[exact], shampooCase(t, name, cfg, shape[0], shape[1], tols[exact]))
					cases++
				}
			}
		}
	}
	t.Logf("%d cases; worst: float32 %.1e, exact %.1e", cases, worst[false], worst[true])
}

func shampooCase(t *testing.T, name string, cfg Config, m, n int, tol float64) float64 {
	t.Helper()
	rng := random(m, n)
	steps := 4
	matrix, factors := dense("/w", gaussian(rng, m, n)), pair("l", gaussian(rng, m, 3), gaussian(rng, n, 3), 2)
	var grads, of [][]*mat.Dense = nil, make([][]*mat.Dense, 3)
	for range steps {
		g := []*mat.Dense{gaussian(rng, m, n), gaussian(rng, m, 3), gaussian(rng, n, 3)}
		grads = append(grads, g)
		for i := range of {
			of[i] = append(of[i], g[i])
		}
	}
	k := math.Sqrt(1 - cfg.WeightDecay*cfg.LearningRate)
	values := append([]value{matrix}, factors...)
	before, now := lastTwo(t, cfg, values, grads)
	eta := cfg.LearningRate * math.Sqrt(float64(m)/float64(n))
	worst := 0.0
	for i, g := range of {
		keep := k
		if i == 0 {
			keep = k * k
		}
		rows, cols := g[0].Dims()
		o := oracle.Shampoo{Momentum: cfg.Momentum, Beta2: cfg.Beta2, Nesterov: cfg.Nesterov, Ridge: shampooRidge}
		o.Left, o.Right = preconditioned(rows, cols, cfg.MaxPreconditioned)
		if cfg.Exact {
			if o.Ridge = shampooRidgeExact; cfg.Beta2 == 0 {
				o.Ridge = 0
			}
		}
		step := sub(now[i], scaled(keep, before[i]))
		off := func(o oracle.Shampoo) float64 { return relative(step, scaled(-eta, shampooSteps(t, o, g))) }
		e := off(o)
		worst = max(worst, e)
		if !(e <= tol) {
			t.Errorf("%s: value %d off the oracle by %.1e, want at most %g", name, i, e, tol)
		}
		for bite, change := range map[string]func(*oracle.Shampoo){
			"beta": func(o *oracle.Shampoo) { o.Momentum -= 0.05 }, "nesterov": func(o *oracle.Shampoo) { o.Nesterov = !o.Nesterov },
			"beta2": func(o *oracle.Shampoo) { o.Beta2 = math.Abs(o.Beta2 - 0.1) }, "side": func(o *oracle.Shampoo) { o.Left = !o.Left },
		} {
			if bite == "side" && cfg.Beta2 == 0 {
				continue // the polar factor with any sides
			}
			changed := o
			change(&changed)
			if !(off(changed) > tol) {
				t.Errorf("%s: value %d passes with another %s", name, i, bite)
			}
		}
	}
	return worst
}

// TestShampooIsMuon: without memory L^{-1/4} g R^{-1/4} is the polar factor of g, on dense matrices and on the factors of pairs,
// with both preconditioners and with one.
func TestShampooIsMuon(t *testing.T) {
	// Float32: muon's 8 steps leave 5e-4, and of a tall factor the roots' rounding is amplified in the directions that L does not
	// have; the worst was 2.2e-3, there. Exact: the stored results may round apart, 6e-8; here they are the same bits.
	tols := map[bool]float64{false: 6e-3, true: 1e-6}
	for _, exact := range []bool{false, true} {
		worst := 0.0
		for _, shape := range [][2]int{{10, 24}, {64, 48}} {
			for _, limit := range []int{0, 8} {
				rng := random(shape[0], 77)
				values := append(pair("l", gaussian(rng, shape[0], 4), gaussian(rng, shape[1], 4), 2),
					dense("/w", gaussian(rng, shape[0], shape[1])))
				grads := [][]*mat.Dense{conditioned(t, values, 1), conditioned(t, values, 2)}
				step := func(name string, beta2 float64) []*mat.Dense {
					return lastStep(t, setting(t, name, noDecay, func(c *Config) {
						if c.LearningRate, c.Exact, c.Nesterov = 1, exact, limit == 8; name == "shampoo" {
							c.Beta2, c.MaxPreconditioned = beta2, limit
						}
					}), values, grads, 1)
				}
				got, memory, want := step("shampoo", 0), step("shampoo", 0.5), step("factor-muon", 0)
				for i, v := range values {
					e := relative(got[i], want[i])
					worst = max(worst, e)
					if !(e <= tols[exact]) {
						t.Errorf("%v, exact %v, limit %d: %s is %.1e from muon's step", shape, exact, limit, v.path, e)
					}
					if !(relative(memory[i], want[i]) > 3*tols[exact]) {
						t.Errorf("%v: %s is muon's with memory too", shape, v.path)
					}
				}
			}
		}
		t.Logf("exact %v: worst difference from muon %.1e", exact, worst)
	}
}

// conditioned returns gradients of condition number 20.
func conditioned(t *testing.T, values []value, seed uint64) []*mat.Dense {
	t.Helper()
	var out []*mat.Dense
	for i, v := range values {
		rows, cols := v.x.Dims()
		out = append(out, rounded(must[*mat.Dense](t)(oracle.RandomMatrix(seed*100+uint64(i), rows, cols, 20))))
	}
	return out
}

// TestPreconditioned: the shorter side always, the longer one up to the limit.
func TestPreconditioned(t *testing.T) {
	for _, c := range []struct {
		m, n, limit int
		left, right bool
	}{
		{8, 8, 0, true, true}, {8, 8, 8, true, true}, {8, 8, 7, true, false}, {8, 9, 8, true, false}, {9, 8, 8, false, true},
		{9, 8, 9, true, true}, {100, 200, 10, true, false}, {200, 100, 10, false, true}, {1, 1, 1, true, true},
	} {
		if left, right := preconditioned(c.m, c.n, c.limit); left != c.left || right != c.right {
			t.Errorf("%d x %d with limit %d: %v %v, want %v %v", c.m, c.n, c.limit, left, right, c.left, c.right)
		}
	}
}

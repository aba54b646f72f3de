package matfn

import (
	"fmt"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

const (
	// floor is the smallest singular value, relative to the Frobenius norm, for which the 8 steps promise anything.
	floor = 1e-4
	// bound is the promise of the spec: singular values in [1-bound, 1+bound]. Exact arithmetic gives [0.9990, 1.0004].
	bound = 0.01
	// polynomialTol is for Msign against the same polynomial in float64. Rounding of 6e-8 grows with the small singular
	// values, 20000-fold over the 8 steps; the worst here was 2.1e-4.
	polynomialTol = 5e-4
	// exactTol is the promise of the spec for the exact finish up to condition number 1e4; the worst here was 1.1e-4.
	exactTol = 1e-3
	// formTol is for two roundings of one result at condition number 100: 6e-8·100 times a few; the worst here was 1.4e-5.
	formTol = 5e-5
)

var forms = map[string]Form{"direct": Direct, "gram": Gram}

// spread returns the smallest and largest singular value of Msign(x) between the singular directions of x above
// floor·‖x‖_F, from oracle's Uᵀ Msign(x) V.
func spread(t *testing.T, x *mat.Dense, opts ...Option) (low, high float64) {
	t.Helper()
	u, sigma, v, err := oracle.SVD(x)
	if err != nil {
		t.Fatal(err)
	}
	k := 0
	for k < len(sigma) && sigma[k] >= floor*mat.Norm(x, 2) {
		k++
	}
	var left, core mat.Dense
	left.Mul(u.T(), apply1(t, msign(opts...), x))
	core.Mul(&left, v)
	values := must[[]float64](t)(oracle.SingularValues(core.Slice(0, k, 0, k)))
	return values[k-1], values[0]
}

func inBound(low, high float64) bool { return low >= 1-bound && high <= 1+bound }

// TestMsignAccuracy is the promise of the default schedule, over shapes, condition numbers and both forms.
func TestMsignAccuracy(t *testing.T) {
	for name, form := range forms {
		for _, shape := range [][2]int{{1, 1}, {1, 9}, {9, 1}, {8, 8}, {16, 64}, {64, 16}, {64, 64}, {24, 200}} {
			for _, cond := range []float64{1, 10, 1e3, 3e3, 1e4} {
				low, high := spread(t, random(t, 3, shape[0], shape[1], cond), WithForm(form))
				if !inBound(low, high) {
					t.Errorf("%s %v cond %g: [%.5f, %.5f]", name, shape, cond, low, high)
				}
			}
		}
	}
}

// TestMsignAccuracyBites drops each step in turn: the bound must fail each time.
func TestMsignAccuracyBites(t *testing.T) {
	x := random(t, 3, 32, 64, 4e3) // its smallest singular value is just above floor·‖x‖_F
	for name, form := range forms {
		for drop := range PolarExpress8 {
			schedule := append(append(Schedule{}, PolarExpress8[:drop]...), PolarExpress8[drop+1:]...)
			if low, high := spread(t, x, WithForm(form), WithSchedule(schedule)); inBound(low, high) {
				t.Errorf("%s without step %d: [%.5f, %.5f] passes", name, drop+1, low, high)
			}
		}
	}
}

// TestMsignPolynomial: Msign is U p(Σ/‖x‖_F) Vᵀ for the polynomial p of any schedule, the user's own among them.
func TestMsignPolynomial(t *testing.T) {
	for name, schedule := range map[string]Schedule{
		"PolarExpress8": PolarExpress8, "JordanQuintic5": JordanQuintic5, "YouCesista6": YouCesista6,
		"one step": {{1.5, -0.5, 0}}, "ten": repeat(Step{2, -1.5, 0.5}, 10), "slow": repeat(Step{1, 0.1, -0.1}, 3),
	} {
		for formName, form := range forms {
			for _, shape := range [][2]int{{12, 40}, {40, 12}, {20, 20}} {
				x := random(t, 5, shape[0], shape[1], 500)
				norm := mat.Norm(x, 2)
				want := must[*mat.Dense](t)(oracle.Apply(x, func(s float64) float64 { return schedule.At(s / norm) }))
				got := apply1(t, msign(WithSchedule(schedule), WithForm(form)), x)
				check.Close(t, fmt.Sprint(name, " ", formName, " ", shape), flat(got), flat(want), polynomialTol)
				changed := append(Schedule{}, schedule...)
				changed[len(changed)-1].A *= 1.005
				bite := apply1(t, msign(WithSchedule(changed), WithForm(form)), x)
				if check.Relative(flat(bite), flat(want)) < polynomialTol {
					t.Errorf("%s: a changed coefficient passes", name)
				}
			}
		}
	}
}

// TestMsignExactFinish is against the SVD, up to condition number 1e4.
func TestMsignExactFinish(t *testing.T) {
	for name, form := range forms {
		for _, shape := range [][2]int{{8, 8}, {16, 64}, {64, 16}, {64, 64}, {32, 300}} {
			for _, cond := range []float64{1, 10, 1e3, 1e4} {
				x := random(t, 11, shape[0], shape[1], cond)
				want := must[*mat.Dense](t)(oracle.Msign(x))
				got := apply1(t, msign(WithForm(form), WithExactFinish()), x)
				check.Close(t, fmt.Sprintf("%s %v cond %g", name, shape, cond), flat(got), flat(want), exactTol)
				plain := apply1(t, msign(WithForm(form)), x)
				if cond == 1e4 && shape[0] > 8 && check.Relative(flat(plain), flat(want)) < exactTol {
					t.Errorf("%s %v: passes without the finish", name, shape)
				}
			}
		}
		well := random(t, 11, 24, 32, 10)
		want := must[*mat.Dense](t)(oracle.Msign(well))
		got := apply1(t, msign(WithForm(form), WithExactFinish()), well)
		check.Close(t, name+" well-conditioned", flat(got), flat(want), 1e-5) // for callers that need 1e-5
	}
}

// TestMsignRankDeficient: directions of singular value zero hold only rounding error, which stays small.
func TestMsignRankDeficient(t *testing.T) {
	for _, shape := range [][2]int{{24, 24}, {24, 96}, {96, 24}} {
		sigma := make([]float64, 24)
		for i := range 10 {
			sigma[i] = 1 / float64(i+1)
		}
		x := rounded(t, must[*mat.Dense](t)(oracle.WithSingularValues(2, shape[0], shape[1], sigma)))
		var left, low mat.Dense
		u, _, v, err := oracle.SVD(must[*mat.Dense](t)(oracle.WithSingularValues(2, shape[0], shape[1], sigma)))
		if err != nil {
			t.Fatal(err)
		}
		left.Mul(u.Slice(0, shape[0], 0, 10), v.Slice(0, shape[1], 0, 10).T())
		for name, form := range forms {
			low.Sub(apply1(t, msign(WithForm(form)), x), &left)
			// The 8 steps are within 1e-3 on the ten; rounding x to float32 leaves others of 1e-8, which become 2e-4. Here 7.2e-4.
			if e := must[float64](t)(oracle.SpectralNorm(&low)); !(e < 2e-3) {
				t.Errorf("%s %v: differs from the polar factor of rank 10 by %.3g", name, shape, e)
			}
		}
	}
}

// TestMsignForms: the two forms agree, and the automatic choice is one of them.
func TestMsignForms(t *testing.T) {
	for _, shape := range [][2]int{{16, 16}, {16, 200}, {200, 16}} {
		x := random(t, 9, shape[0], shape[1], 100)
		direct, gram := apply1(t, msign(WithForm(Direct)), x), apply1(t, msign(WithForm(Gram)), x)
		check.Close(t, fmt.Sprint("gram against direct ", shape), flat(gram), flat(direct), formTol)
		auto, want := apply1(t, msign(), x), direct
		if shape[0] != shape[1] {
			want = gram
		}
		if check.Relative(flat(auto), flat(want)) != 0 {
			t.Errorf("%v: the automatic form is not the cheaper one", shape)
		}
		if check.Relative(flat(gram), flat(direct)) == 0 {
			t.Errorf("%v: WithForm changes nothing", shape)
		}
	}
}

// TestMsignScale: the scale of x does not matter.
func TestMsignScale(t *testing.T) {
	x := random(t, 4, 12, 30, 100)
	for name, form := range forms {
		want := apply1(t, msign(WithForm(form)), x)
		for _, scale := range []float64{1e-30, 1e-12, 1e-3, 1e3, 1e12, 1e30} {
			got := apply1(t, msign(WithForm(form)), scaled(scale, x))
			check.Close(t, fmt.Sprintf("%s at scale %g", name, scale), flat(got), flat(want), formTol)
		}
	}
	if s := float32(1e30); !math.IsInf(float64(s*s), 1) {
		t.Error("the test has no bite: squares at 1e30 fit into float32")
	}
}

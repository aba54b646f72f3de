package matfn

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// clipTol is for two float32 ways to one result, each within steady of the accuracy table; the worst here was 5e-6.
const clipTol = 3e-5

var clipForms = map[string]Form{"projected": Projected, "nested": Nested, "blockwise": Blockwise}

func hardcap(beta float64, opts ...Option) func(*Node) *Node {
	return func(x *Node) *Node { return SpectralHardcap(x, beta, opts...) }
}

// TestHardcapLimit: hardcap_1(k·g) goes to msign(g) as k grows, and is it once k times the smallest singular value is above 1.
func TestHardcapLimit(t *testing.T) {
	g := random(t, 6, 12, 20, 100)
	want := must[*mat.Dense](t)(oracle.Msign(g))
	for name, form := range clipForms {
		last := math.Inf(1)
		for _, k := range []float64{1, 10, 50, 200, 1e4} {
			off := check.Relative(flat(apply1(t, hardcap(1, WithForm(form)), scaled(k, g))), flat(want))
			limit := clipTol
			if form == Nested {
				limit = 1e-6 * k // of k·g half is left over from a cancellation
			}
			switch {
			case k < 100 && !(off > 10*limit && off < last):
				t.Errorf("%s, k = %g: off by %.2g after %.2g: small singular values cannot be at 1 yet", name, k, off, last)
			case k > 100 && !(off <= limit):
				t.Errorf("%s, k = %g: off by %.2g", name, k, off)
			}
			last = off
		}
	}
}

// TestClippedDecayEquilibrium: under updates of norm eta that all point one way, clipped decay settles where the formulas say,
// b + (1-l)/l·eta for a step and then the projection, b + eta/l for the projection and then a step; under updates of norm eta
// in random directions it stays below.
func TestClippedDecayEquilibrium(t *testing.T) {
	const m, n, eta, b, l = 6, 9, 0.2, 1.5, 0.1
	const tol = 1e-4 // 0.9^150 is 1e-7; float32 rounding stays below 1e-5
	project := func(w *Node) *Node { return SpectralClippedWeightDecay(w, b, l) }
	for name, c := range map[string]struct {
		step func(w, d *Node) *Node
		want float64
	}{
		"step, then project": {func(w, d *Node) *Node { return project(Add(w, d)) }, b + (1-l)/l*eta},
		"project, then step": {func(w, d *Node) *Node { return Add(project(w), d) }, b + eta/l},
	} {
		exec := must[*Exec](t)(NewExec(check.Backend(t), c.step))
		defer exec.Finalize()
		simulate := func(update func(i int) *mat.Dense, steps int) (norm, highest float64) {
			w := tensorOf(mat.NewDense(m, n, nil))
			for i := range steps {
				out := must[[]*tensors.Tensor](t)(exec.Call(w, tensorOf(update(i))))
				w = out[0]
				norm = must[float64](t)(oracle.SpectralNorm(matrixOf(t, tensors.MustCopyFlatData[float32](w), m, n)))
				highest = max(highest, norm)
			}
			return norm, highest
		}
		polar := scaled(eta, must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(1, m, n))))
		if norm, _ := simulate(func(int) *mat.Dense { return polar }, 150); math.Abs(norm-c.want) > tol {
			t.Errorf("%s: settles at %v, want %v", name, norm, c.want)
		}
		_, highest := simulate(func(i int) *mat.Dense {
			return scaled(eta, must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(uint64(i), m, n))))
		}, 60)
		if highest > c.want+tol || highest < b/2 {
			t.Errorf("%s: random updates reach %v, the bound is %v", name, highest, c.want)
		}
	}
}

// TestProjectionsAreIdempotent: clips once are clips twice; clipped decay is not.
func TestProjectionsAreIdempotent(t *testing.T) {
	for form, f := range clipForms {
		for name, fn := range map[string]func(x *Node) *Node{
			"SpectralClip":    func(x *Node) *Node { return SpectralClip(x, 0.1, 0.4, WithForm(f)) },
			"SpectralHardcap": hardcap(0.3, WithForm(f)),
			"SpectralReLU":    func(x *Node) *Node { return SpectralReLU(x, 0.3, WithForm(f)) },
		} {
			for _, shape := range [][2]int{{9, 9}, {8, 15}, {15, 8}} {
				once := apply1(t, fn, random(t, 2, shape[0], shape[1], 50))
				check.Close(t, fmt.Sprint(name, " ", form, " ", shape), flat(apply1(t, fn, once)), flat(once), clipTol)
			}
		}
	}
	decay := func(x *Node) *Node { return SpectralClippedWeightDecay(x, 0.3, 0.2) }
	once := apply1(t, decay, random(t, 2, 8, 8, 50))
	if check.Relative(flat(apply1(t, decay, once)), flat(once)) < 100*clipTol {
		t.Error("clipped decay is idempotent: the test has no bite")
	}
}

// TestClipsThatDoNothing: bounds beyond the singular values, by a little or by far, give back the matrix; a decay of zero too, and
// one of 1 is the cap.
func TestClipsThatDoNothing(t *testing.T) {
	const tol = 2e-6 // blockwise 5e-7, nested 1.5e-6, projected below 1e-7
	for _, shape := range [][2]int{{9, 9}, {8, 15}, {15, 8}} {
		x := random(t, 4, shape[0], shape[1], 20)
		for name, form := range clipForms {
			for _, beta := range []float64{1.05, 10, 1e6, 1e30, 1e300} {
				check.Close(t, fmt.Sprintf("%s, cap at %g", name, beta), flat(apply1(t, hardcap(beta, WithForm(form)), x)), flat(x), tol)
			}
			for _, alpha := range []float64{0, 1e-30, 1e-6, 0.03} {
				relu := apply1(t, func(x *Node) *Node { return SpectralReLU(x, alpha, WithForm(form)) }, x)
				check.Close(t, fmt.Sprintf("%s, relu at %g", name, alpha), flat(relu), flat(x), tol)
			}
			none := apply1(t, func(x *Node) *Node { return SpectralClippedWeightDecay(x, 0.3, 0, WithForm(form)) }, x)
			check.Close(t, name+", no decay", flat(none), flat(x), 0)
			all := apply1(t, func(x *Node) *Node { return SpectralClippedWeightDecay(x, 0.3, 1, WithForm(form)) }, x)
			check.Close(t, name+", all decay", flat(all), flat(apply1(t, hardcap(0.3, WithForm(form)), x)), 0)
		}
	}
}

// TestClipZeros: singular values of zero stay zero under a lower bound, and with WithExact those below 1e-10 of the largest.
func TestClipZeros(t *testing.T) {
	sigma := []float64{1, 0.5, 1e-3, 1e-9, 1e-11, 1e-13, 0, 0}
	x := must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 12, sigma))
	lifted := must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 12, []float64{1, 0.5, 0.1, 0.1, 0, 0, 0, 0}))
	clipped := must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 12, []float64{0.4, 0.4, 0.1, 0.1, 0, 0, 0, 0}))
	for name, form := range clipForms {
		relu := apply64(t, func(x *Node) *Node { return SpectralReLU(x, 0.1, WithForm(form), WithExact()) }, x)
		check.Close(t, name+" relu", flat(relu), flat(lifted), 1e-6) // 1e-16 over 1e-9
		clip := apply64(t, func(x *Node) *Node { return SpectralClip(x, 0.1, 0.4, WithForm(form), WithExact()) }, x)
		check.Close(t, name+" clip", flat(clip), flat(clipped), 1e-6)
		// In float32 a matrix of 1 and 2 has rank one to the last bit.
		ones := mat.NewDense(2, 3, []float64{1, 2, 1, 2, 4, 2})
		want := must[*mat.Dense](t)(oracle.SpectralReLU(ones, 10))
		got := apply1(t, func(x *Node) *Node { return SpectralReLU(x, 10, WithForm(form)) }, ones)
		check.Close(t, name+" of rank one", flat(got), flat(want), clipTol)
	}
}

// TestClipTransposed: functions of xᵀ are transposes of functions of x, to the last bit, since they are computed so.
func TestClipTransposed(t *testing.T) {
	x := random(t, 8, 7, 11, 30)
	for name, form := range clipForms {
		for what, fn := range map[string]func(*Node) *Node{
			"SpectralClip":               func(x *Node) *Node { return SpectralClip(x, 0.1, 0.4, WithForm(form)) },
			"SpectralHardcap":            hardcap(0.3, WithForm(form)),
			"SpectralReLU":               func(x *Node) *Node { return SpectralReLU(x, 0.2, WithForm(form)) },
			"SpectralClippedWeightDecay": func(x *Node) *Node { return SpectralClippedWeightDecay(x, 0.3, 0.2, WithForm(form)) },
		} {
			wide, tall := apply1(t, fn, x), apply1(t, fn, mat.DenseCopyOf(x.T()))
			check.Close(t, what+" "+name, flat(mat.DenseCopyOf(tall.T())), flat(wide), 0)
		}
	}
}

// TestClipForms: the forms agree, each is another computation, and the default is the projected one.
func TestClipForms(t *testing.T) {
	for _, shape := range [][2]int{{12, 12}, {10, 31}, {31, 10}} {
		x := random(t, 9, shape[0], shape[1], 100)
		clip := func(opts ...Option) []float64 {
			return flat(apply1(t, func(x *Node) *Node { return SpectralClip(x, 0.05, 0.4, opts...) }, x))
		}
		projected, nested, blockwise := clip(WithForm(Projected)), clip(WithForm(Nested)), clip(WithForm(Blockwise))
		check.Close(t, fmt.Sprint("nested ", shape), nested, projected, clipTol)
		check.Close(t, fmt.Sprint("blockwise ", shape), blockwise, projected, clipTol)
		check.Close(t, fmt.Sprint("default ", shape), clip(), projected, 0)
		if check.Relative(nested, projected) == 0 || check.Relative(blockwise, projected) == 0 {
			t.Errorf("%v: WithForm changes nothing", shape)
		}
		short := clip(WithSchedule(PolarExpress8))
		if check.Relative(short, projected) < 10*clipTol {
			t.Errorf("%v: WithSchedule changes nothing that shows", shape)
		}
	}
}

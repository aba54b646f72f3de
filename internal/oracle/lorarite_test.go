package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestLoRARITECoreIsLoRAMuon: by QR and by SVD the increments are the same, decay and moments too.
func TestLoRARITECoreIsLoRAMuon(t *testing.T) {
	for seed := range uint64(5) {
		a, b := Gaussian(seed, 9, 4), Gaussian(seed+10, 7, 4)
		p := Pair{A: a, B: b, MomentA: Gaussian(seed+20, 9, 4), MomentB: Gaussian(seed+30, 7, 4)}
		gA, gB := Gaussian(seed+40, 9, 4), Gaussian(seed+50, 7, 4)
		o := LoRAMuon{LearningRate: 0.3, Momentum: 0.8, WeightDecay: 0.5, S: 2, Scale: 1.5}
		want, _, _, err := o.Step(p, gA, gB)
		if err != nil {
			t.Fatal(err)
		}
		got, _, _, err := LoRARITECore(o).Step(p, gA, gB)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "A", got.A, want.A, tol)
		near(t, "B", got.B, want.B, tol)
		near(t, "moment", got.MomentA, want.MomentA, tol)
	}
	singular := Gaussian(1, 9, 4)
	singular.SetCol(2, make([]float64, 9))
	if _, _, _, err := (LoRARITECore{S: 1}).Step(Pair{A: singular, B: Gaussian(2, 7, 4)}, Gaussian(3, 9, 4), Gaussian(4, 7, 4)); err == nil {
		t.Error("a factor without full rank passes")
	}
}

// TestSpectronStep: a hand-made case, with norms 3 and 2 of the factors: rho = 0.6/6 for s = 1.
func TestSpectronStep(t *testing.T) {
	a, b := mat.NewDense(2, 1, []float64{3, 0}), mat.NewDense(2, 1, []float64{0, -2})
	g := mat.NewDense(2, 1, []float64{0, 7})
	next, err := (Spectron{LearningRate: 0.6, Momentum: 0.5, WeightDecay: 0.5, S: 1}).Step(Pair{A: a, B: b}, g, g)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "A", next.A, mat.NewDense(2, 1, []float64{0.7 * 3, -0.1}), tol)
	near(t, "B", next.B, mat.NewDense(2, 1, []float64{0, -0.7*2 - 0.1}), tol)
	near(t, "moment", next.MomentB, mat.NewDense(2, 1, []float64{0, 3.5}), tol)
	// s = 4 with halved factors is the same pair: its steps are half as long.
	half := func(x *mat.Dense) *mat.Dense {
		out := new(mat.Dense)
		out.Scale(0.5, x)
		return out
	}
	scaled, err := (Spectron{LearningRate: 0.6, Momentum: 0.5, WeightDecay: 0.5, S: 4}).Step(Pair{A: half(a), B: half(b)}, g, g)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "A at s = 4", scaled.A, half(next.A), tol)
}

// TestEscapedMass: closed forms, and a rotation loses nothing.
func TestEscapedMass(t *testing.T) {
	v := mat.NewDense(2, 2, []float64{4, 0, 0, 1})
	for _, c := range []struct {
		p          []float64
		want, move float64
	}{
		{[]float64{1, 0, 0, 1}, 0, 0}, {[]float64{0, 1, -1, 0}, 0, 0}, {[]float64{0, 0, 0, 0}, 4, 4},
		{[]float64{0.8, 0, 0, 1}, 4 * 0.36, 4 * 0.36}, {[]float64{1, 0, 0, 0.6}, 0.64, 0.64},
	} {
		p := mat.NewDense(2, 2, c.p)
		got, err := EscapedMass(p, v)
		if err != nil {
			t.Fatal(err)
		}
		shift, err := EigenvalueShift(v, product(p, v, p.T()))
		if err != nil {
			t.Fatal(err)
		}
		if !(math.Abs(got-c.want) <= tol) || !(math.Abs(shift-c.move) <= tol) {
			t.Errorf("P %v: escaped mass %g, want %g; shift of the eigenvalues %g, want %g", c.p, got, c.want, shift, c.move)
		}
	}
}

// TestLoRARITEPath: for one column the moments are numbers, so that the path can be followed by hand.
func TestLoRARITEPath(t *testing.T) {
	o := &LoRARITE{LearningRate: 0.1, Momentum: 0.9, Beta2: 0.5, S: 1, A: mat.NewDense(1, 1, []float64{2}), B: mat.NewDense(1, 1, []float64{-4})}
	moment, second := 0.0, 0.0
	for step, g := range []float64{3, -1, 5} { // of W: the unmagnified gradient of A is g times the sign of B
		a, b := o.A.At(0, 0), o.B.At(0, 0)
		second = 0.5*second + 0.5*g*g
		direction := g / math.Sqrt(second/(1-math.Pow(0.5, float64(step+1))))
		moment = 0.9*moment + 0.1*direction
		if err := o.Step(mat.NewDense(1, 1, []float64{g * b}), mat.NewDense(1, 1, []float64{g * a})); err != nil {
			t.Fatal(err)
		}
		if wantA, wantB := a-0.1*moment/b, b-0.1*moment/a; !(math.Abs(o.A.At(0, 0)-wantA) <= tol) || !(math.Abs(o.B.At(0, 0)-wantB) <= tol) {
			t.Errorf("step %d: A %g and B %g, want %g and %g", step+1, o.A.At(0, 0), o.B.At(0, 0), wantA, wantB)
		}
	}
	if a, b := o.Rho(); a != 0 || b != 0 {
		t.Errorf("%g and %g escape from a line", a, b)
	}
}

// TestPairsRefuseNonFinite: the references of pairs, for NaN and infinity.
func TestPairsRefuseNonFinite(t *testing.T) {
	good := eye(3)
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		x := eye(3)
		x.Set(2, 1, bad)
		for name, fn := range map[string]func() error{
			"Spectron a":     func() error { _, err := (Spectron{S: 1}).Step(Pair{A: x, B: good}, good, good); return err },
			"Spectron g":     func() error { _, err := (Spectron{S: 1}).Step(Pair{A: good, B: good}, good, x); return err },
			"LoRARITECore a": func() error { _, _, _, err := (LoRARITECore{S: 1}).Step(Pair{A: x, B: good}, good, good); return err },
			"LoRARITECore g": func() error { _, _, _, err := (LoRARITECore{S: 1}).Step(Pair{A: good, B: good}, x, good); return err },
			"LoRARITE b":     func() error { return (&LoRARITE{S: 1, A: good, B: x}).Step(good, good) },
			"LoRARITE g":     func() error { return (&LoRARITE{S: 1, A: good, B: good}).Step(good, x) },
			"EscapedMass p":  func() error { _, err := EscapedMass(x, good); return err },
			"EscapedMass v":  func() error { _, err := EscapedMass(good, x); return err },
		} {
			if err := fn(); !errors.Is(err, ErrNonFinite) {
				t.Errorf("%s with %v: error %v", name, bad, err)
			}
		}
	}
}

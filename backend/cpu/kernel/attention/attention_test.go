package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// tolerance is relative to the Euclidean norm of the whole result, or of its terms. float32 scores of size s have errors of some
// s·2^-24, which become relative errors of the probabilities. Worst here: 4.4e-7 (out).
const tolerance = 1e-6

var resultNames = [5]string{"out", "stats", "dq", "dk", "dv"}

func levels() []feature.Level {
	var out []feature.Level
	for l := feature.Generic; l <= feature.Detected(); l++ {
		out = append(out, l)
	}
	return out
}

func square(batch, heads, kv, length, dim int, causal bool) Spec {
	return Spec{Batch: batch, Heads: heads, KVHeads: kv, QueryLen: length, KeyLen: length, Dim: dim, ValueDim: dim,
		Scale: float32(1 / math.Sqrt(float64(dim))), Causal: causal}
}

type testCase struct {
	name string
	spec Spec
}

func cases() []testCase {
	var out []testCase
	add := func(name string, s Spec, l layout) { out = append(out, testCase{name, withLayout(s, l)}) }
	for _, n := range []int{1, 2, lanes - 1, lanes, lanes + 1, panelWidth - 1, panelWidth, panelWidth + 1,
		keyBlock - 1, keyBlock, keyBlock + 1, 2*keyBlock + 50} {
		for i, causal := range []bool{false, true} {
			add(fmt.Sprintf("length=%d,causal=%v", n, causal), square(1, 2, 1, n, 16, causal), layout(i))
		}
	}
	for _, dim := range []int{1, 3, 15, 16, 17, 31, 32, 33, 48, 64, 72, 80, 128} {
		s := square(2, 2, 2, 40, dim, true)
		add(fmt.Sprintf("dim=%d", dim), s, gaps)
		s.ValueDim = dim/2 + 5
		add(fmt.Sprintf("dim=%d,valueDim=%d", dim, s.ValueDim), s, rowsFirst)
	}
	for _, lens := range [][2]int{{1, 50}, {50, 1}, {17, 300}, {300, 17}, {33, 64}, {65, 33}, {70, 200}, {200, 70}} {
		for _, causal := range []bool{false, true} {
			s := square(1, 3, 1, lens[0], 24, causal)
			s.KeyLen = lens[1]
			add(fmt.Sprintf("lengths=%d,%d,causal=%v", lens[0], lens[1], causal), s, rowsFirst)
		}
	}
	for _, window := range []int{1, 2, 15, 16, 17, 40, 128, 200, 1000} {
		s := square(1, 2, 1, 270, 16, true)
		s.Window = window
		add(fmt.Sprintf("window=%d", window), s, rowsFirst)
	}
	s := square(1, 1, 1, 300, 8, true)
	s.KeyLen, s.Window = 40, 20
	add("queries that see nothing", s, gaps)
	add("heads=6,3", square(2, 6, 3, 70, 20, true), rowsFirst)
	add("long", square(1, 2, 1, keyChunk+keyBlock+9, 16, true), rowsFirst)
	return append(out, maskCases()...)
}

func maskCases() (out []testCase) {
	for kind, name := range []string{NoMask: "", BoolMask: "bool", AddMask: "add"} {
		if name == "" {
			continue
		}
		for axes := range 16 { // which axes the mask has
			s := square(2, 4, 2, 150, 16, axes&4 != 0)
			s.KeyLen, s.Mask = 141, MaskKind(kind)
			stride := 1
			for _, axis := range []struct {
				bit, n int
				to     *int
			}{{1, s.KeyLen, &s.MaskStrides.Key}, {2, s.QueryLen, &s.MaskStrides.Query}, {4, s.Heads, &s.MaskStrides.Head}, {8, s.Batch, &s.MaskStrides.Batch}} {
				if axes&axis.bit != 0 {
					*axis.to = stride
					stride *= axis.n
				}
			}
			out = append(out, testCase{fmt.Sprintf("%s mask, axes %04b", name, axes), withLayout(s, layout(axes%3))})
		}
	}
	return out
}

// distance is ‖x-y‖/‖scale‖, 0 for equal ones.
func distance(x []float32, y, scale []float64) float64 {
	diff, norm := 0.0, 0.0
	for i := range y {
		d := float64(x[i]) - y[i]
		diff += d * d
		norm += scale[i] * scale[i]
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / norm)
}

func TestReference(t *testing.T) {
	worst := [5]float64{}
	for i, c := range cases() {
		p := newProblem(c.spec, uint64(i))
		want, scales := p.reference().all()
		for _, level := range levels() {
			if level == feature.Generic && c.spec.QueryLen > 400 && testing.Short() {
				continue
			}
			got := p.compute(level, 1, i)
			if lost := got.overwritten(); lost > 0 {
				t.Errorf("%s, %s: %d guard values lost", c.name, level, lost)
			}
			for j, x := range got.dense(p) {
				d := distance(x, want[j], scales[j])
				if !(d <= tolerance) {
					t.Errorf("%s, %s: %s is off by %.2g, tolerance %.2g", c.name, level, resultNames[j], d, float64(tolerance))
				}
				worst[j] = math.Max(worst[j], d)
			}
		}
	}
	t.Logf("worst: %s %.2g", resultNames, worst)
}

// TestReferenceBites: a key too many for one query, or a scale off by a hundred thousandth, is seen.
func TestReferenceBites(t *testing.T) {
	s := withLayout(square(1, 1, 1, 100, 16, true), headsFirst)
	r := newProblem(s, 1).reference()
	s.Scale *= 1 + 1e-5
	for _, bad := range []Spec{s, withLayout(square(1, 1, 1, 100, 16, false), headsFirst)} {
		p := newProblem(bad, 1)
		if d := distance(p.compute(feature.Detected(), 1, 0).out, r.out, r.out); d <= tolerance {
			t.Errorf("a difference of %g passes", d)
		}
	}
}

// TestWorkers: the same bits for any number of workers.
func TestWorkers(t *testing.T) {
	long := square(1, 2, 1, 600, 16, true)
	masked := square(2, 2, 1, 200, 40, true)
	masked.Mask, masked.MaskStrides = BoolMask, MaskStrides{Query: 200, Key: 1}
	for _, s := range []Spec{long, masked, square(3, 6, 3, 130, 16, true), square(1, 1, 1, 90, 8, false)} {
		p := newProblem(withLayout(s, rowsFirst), 3)
		for _, level := range levels() {
			want := p.compute(level, 1, 0).dense(p)
			for _, workers := range []int{1, 2, 3, 8} {
				for j, x := range p.compute(level, workers, workers).dense(p) {
					if !slices.Equal(x, want[j]) {
						t.Errorf("%+v, %s: %d workers change %s", s, level, workers, resultNames[j])
					}
				}
			}
		}
	}
}

// TestFiniteDifferences compares the VJP with differences of the float64 reference's output.
func TestFiniteDifferences(t *testing.T) {
	s := withLayout(square(1, 2, 1, 20, 8, true), rowsFirst)
	p := newProblem(s, 5)
	got := p.compute(feature.Detected(), 1, 0)
	value := func() float64 {
		sum, out := 0.0, p.reference().out
		for i, x := range dense(p.dout, s.Batch, s.Heads, s.QueryLen, s.ValueDim, s.Out) {
			sum += float64(x) * out[i]
		}
		return sum
	}
	const step = 1.0 / 256 // exact in float32; the third derivative's term is some 1e-5
	for name, pair := range map[string][2][]float32{"dq": {p.q, got.dq}, "dk": {p.k, got.dk}, "dv": {p.v, got.dv}} {
		want := make([]float64, len(pair[0]))
		for i, x := range pair[0] {
			up, down := x+step, x-step
			pair[0][i] = up
			want[i] = value()
			pair[0][i] = down
			want[i] = (want[i] - value()) / (float64(up) - float64(down))
			pair[0][i] = x
		}
		if d := distance(pair[1], want, want); !(d <= 1e-4) {
			t.Errorf("%s differs from differences by %.2g", name, d)
		}
	}
}

// TestOneKey: a probability of 1 has a gradient of exactly 0, and the output is the value.
func TestOneKey(t *testing.T) {
	s := square(1, 2, 1, 50, 40, true)
	s.Window = 1
	p := newProblem(withLayout(s, headsFirst), 4)
	for _, level := range levels() {
		got := p.compute(level, 1, 0)
		if !slices.Equal(got.out[:50*40], p.v) {
			t.Errorf("%s: the output is not the value", level)
		}
		for name, x := range map[string][]float32{"dq": got.dq, "dk": got.dk} {
			if slices.ContainsFunc(x, func(x float32) bool { return x != 0 }) {
				t.Errorf("%s: %s is not 0", level, name)
			}
		}
	}
}

// TestNonFinite: NaN and infinities reach what sees them and nothing else.
func TestNonFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, operand := range []string{"q", "k", "v"} {
			s := square(1, 2, 1, 140, 16, true)
			s.Mask, s.MaskStrides = BoolMask, MaskStrides{Query: 140, Key: 1}
			s = withLayout(s, rowsFirst)
			p := newProblem(s, 9)
			const where = 70
			x := map[string][]float32{"q": p.q[s.Q.at(0, 1, where):], "k": p.k[s.K.at(0, 0, where):], "v": p.v[s.V.at(0, 0, where):]}[operand]
			x[3] = bad
			want, _ := p.reference().all()
			for _, level := range levels() {
				for j, got := range p.compute(level, 1, 0).dense(p) {
					bad, last := compareNonFinite(got, want[j])
					if bad > 0 {
						t.Errorf("%g in %s, %s: %d values of %s are wrong, the last %s", x[3], operand, level, bad, resultNames[j], last)
					}
				}
			}
		}
	}
}

// compareNonFinite counts the values that are not as wanted: NaN for NaN, infinities alike, others close.
func compareNonFinite(got []float32, want []float64) (bad int, last string) {
	for i, w := range want {
		g := float64(got[i])
		same := g == w || math.IsNaN(g) && math.IsNaN(w) || math.Abs(g-w) <= 1e-4*(1+math.Abs(w))
		if !same {
			bad++
			last = fmt.Sprintf("%d: %g, not %g", i, g, w)
		}
	}
	return bad, last
}

// TestScratch: linear in the length.
func TestScratch(t *testing.T) {
	for _, workers := range []int{1, 2, 8} {
		size := func(length int) (int, int) {
			p := New(withLayout(square(1, 4, 2, length, 64, true), rowsFirst), feature.Generic)
			return p.Scratch(workers), p.ScratchVJP(workers)
		}
		f, g := size(4096)
		f2, g2 := size(8192)
		if f2 != f || g2 > 2*g {
			t.Errorf("%d workers: scratch grows from %d and %d to %d and %d when the length doubles", workers, f, g, f2, g2)
		}
	}
}

func TestFlops(t *testing.T) {
	s := withLayout(square(2, 3, 1, 4, 10, true), rowsFirst)
	s.ValueDim = 7
	f, g := New(s, feature.Generic).Flops()
	if pairs := 10.0 * 2 * 3; f != 2*pairs*17 || g != 2*pairs*(30+14) {
		t.Errorf("operations %v and %v", f, g)
	}
	s.Window = 2
	if f, _ = New(s, feature.Generic).Flops(); f != 2*7*6*17 {
		t.Errorf("operations with a window: %v", f)
	}
}

func TestEmpty(t *testing.T) {
	for _, s := range []Spec{square(0, 1, 1, 5, 4, true), square(1, 1, 1, 0, 4, true), square(1, 1, 1, 5, 0, false)} {
		p := newProblem(withLayout(s, rowsFirst), 1)
		p.compute(feature.Detected(), 2, 0)
	}
	s := square(1, 1, 1, 5, 4, false)
	s.KeyLen = 0
	p := newProblem(withLayout(s, rowsFirst), 1)
	got := p.compute(feature.Detected(), 1, 0)
	for _, x := range append(got.out, got.dq...) {
		if x != 0 {
			t.Fatalf("no keys give %g", x)
		}
	}
}

// TestLong has three chunks of keys.
func TestLong(t *testing.T) {
	p := newProblem(withLayout(square(1, 2, 1, 2*keyChunk+70, 32, true), rowsFirst), 1)
	want, scales := p.reference().all()
	for j, x := range p.compute(feature.Detected(), 2, 0).dense(p) {
		if d := distance(x, want[j], scales[j]); !(d <= tolerance) {
			t.Errorf("%s is off by %.2g", resultNames[j], d)
		}
	}
}

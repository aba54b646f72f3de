package check

import (
	"math"
	"strings"
	"testing"
)

// TestCompare holds the rules of Close, each with the nearest case that must fail.
func TestCompare(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name      string
		got, want []float64
		tol       float64
		problem   string // "" is close; else a part of the text
	}{
		{"equal", []float64{1, 2}, []float64{1, 2}, 0, ""},
		{"within", []float64{3, 4.005}, []float64{3, 4}, 1.1e-3, ""},
		{"outside", []float64{3, 4.005}, []float64{3, 4}, 0.9e-3, "worst at [1]: got 4.005, want 4"},
		{"ratio", []float64{0, 2}, []float64{0, 1}, 0.1, "10 times the tolerance"},
		{"zero to zero", []float64{0, 0}, []float64{0, 0}, 0, ""},
		{"nothing else is close to zero", []float64{1e-300}, []float64{0}, 1e9, "want 0"},
		{"NaN to a number", []float64{nan}, []float64{1}, 1e9, "NaN is close to nothing"},
		{"NaN to NaN", []float64{1, nan}, []float64{1, nan}, 1e9, "[1] got NaN"},
		{"Inf to Inf", []float64{inf, 1}, []float64{inf, 1}, 0, ""},
		{"Inf to a number", []float64{inf}, []float64{1}, 1e9, "got +Inf"},
		{"Inf to -Inf", []float64{inf}, []float64{-inf}, 1e9, "want -Inf"},
		{"a number to Inf", []float64{1}, []float64{inf}, 1e9, "want +Inf"},
		{"lengths", []float64{1}, []float64{1, 2}, 1, "got 1 elements, want 2"},
		{"empty", nil, nil, 0, ""},
		{"NaN tolerance", []float64{1}, []float64{1.1}, nan, "relative error"},
		{"large", []float64{1e300, 1e300}, []float64{1e300, 1e300}, 0, ""},
		{"large and different", []float64{1e300, 2e300}, []float64{1e300, 1e300}, 0.1, "worst at [1]"},
	} {
		problem := Compare(c.got, c.want, c.tol)
		if (c.problem == "") != (problem == "") || !strings.Contains(problem, c.problem) {
			t.Errorf("%s: %q, want it to contain %q", c.name, problem, c.problem)
		}
	}
}

func TestRelative(t *testing.T) {
	for _, c := range []struct {
		got, want []float32
		relative  float64
	}{
		{[]float32{3, 4}, []float32{3, 4}, 0},
		{[]float32{0}, []float32{0}, 0},
		{[]float32{3, 5}, []float32{3, 4}, 0.2},
		{[]float32{1}, []float32{0}, math.Inf(1)},
	} {
		if r := Relative(c.got, c.want); math.Abs(r-c.relative) > 1e-15 && r != c.relative {
			t.Errorf("%v to %v: %v, want %v", c.got, c.want, r, c.relative)
		}
	}
	for _, r := range []float64{Relative([]float32{float32(math.NaN())}, []float32{1}), Relative([]float32{1}, nil)} {
		if !math.IsNaN(r) {
			t.Errorf("got %v, want NaN", r)
		}
	}
}

// reporter records what Close and Long tell the test.
type reporter struct {
	testing.TB
	failed, skipped bool
}

func (r *reporter) Helper()               {}
func (r *reporter) Errorf(string, ...any) { r.failed = true }
func (r *reporter) Skip(...any)           { r.skipped = true }

func TestClose(t *testing.T) {
	r := &reporter{TB: t}
	if Close(r, "same", []float32{1}, []float32{1}, 0); r.failed {
		t.Error("equal arrays fail")
	}
	if Close(r, "other", []float32{1}, []float32{2}, 0.1); !r.failed {
		t.Error("different arrays pass")
	}
}

func TestLong(t *testing.T) {
	defer func(was bool) { *long = was }(*long)
	for _, c := range []struct {
		flag    bool
		env     string
		skipped bool
	}{{false, "", true}, {false, "0", true}, {false, "1", false}, {true, "", false}} {
		*long = c.flag
		t.Setenv(LongEnv, c.env)
		r := &reporter{TB: t}
		if Long(r); r.skipped != c.skipped {
			t.Errorf("-long=%v %s=%q: skipped %v", c.flag, LongEnv, c.env, r.skipped)
		}
	}
}

func TestBackend(t *testing.T) {
	if a, b := Backend(t), Backend(t); a != b || a.Name() == "" {
		t.Errorf("got backends %v and %v, want one", a, b)
	}
}

package cli

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/optimizer"
)

// state writes matrices as a safetensors file and returns its path.
func state(t testing.TB, matrices map[string]*mat.Dense) string {
	t.Helper()
	var list []safetensors.Tensor
	for name, x := range matrices {
		m, n := x.Dims()
		list = append(list, safetensors.FromFloat32(name, []int{m, n}, oracle.Float32(x)))
	}
	path := filepath.Join(t.TempDir(), "state.safetensors")
	if err := safetensors.Write(path, list, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadState reads what state, or polar step, wrote.
func loadState(t testing.TB, path string) map[string]*mat.Dense {
	t.Helper()
	file := need[*safetensors.File](t)(safetensors.Open(path))
	defer file.Close()
	if file.Metadata()["format"] != "pt" {
		t.Errorf("metadata %v, want that of the input", file.Metadata())
	}
	out := map[string]*mat.Dense{}
	for _, name := range file.Names() {
		if dtype, _, _ := file.Info(name); dtype != "F32" {
			t.Errorf("%s has type %s", name, dtype)
		}
		data, shape, err := file.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = need[*mat.Dense](t)(oracle.FromFloat32(data, shape[0], shape[1]))
	}
	return out
}

// pairState returns a pair with gradients, as float32 holds them.
func pairState(t testing.TB, cond float64) map[string]*mat.Dense {
	t.Helper()
	round := func(x *mat.Dense) *mat.Dense {
		m, n := x.Dims()
		return need[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(x), m, n))
	}
	a := round(need[*mat.Dense](t)(oracle.RandomMatrix(1, 20, 4, cond)))
	b := round(need[*mat.Dense](t)(oracle.RandomMatrix(2, 5, 4, cond)))
	return map[string]*mat.Dense{"A": a, "B": b, "grad_A": round(oracle.Gaussian(3, 20, 4)), "grad_B": round(oracle.Gaussian(4, 5, 4))}
}

func minus(x, y mat.Matrix) []float64 {
	var d mat.Dense
	d.Sub(x, y)
	return elements(&d)
}

// step runs polar step and returns the state that it wrote.
func step(t *testing.T, path, args string) map[string]*mat.Dense {
	t.Helper()
	out := filepath.Join(t.TempDir(), "next.safetensors")
	must(t, slices.Concat([]string{"step"}, strings.Fields(args), []string{"--in", path, "-o", out})...)
	return loadState(t, out)
}

// TestStepIsTheRule: an exact step of lora-muon on a file is the oracle's, in every way to write its flags; moments that were
// missing are there, gradients as they were.
func TestStepIsTheRule(t *testing.T) {
	const tol = 1e-5 // float32 of parameters that change by about half of themselves
	in := pairState(t, 100)
	path := state(t, in)
	next, _, _, err := oracle.LoRAMuon{LearningRate: 0.5, Momentum: 0.9, WeightDecay: 0.2, S: 1}.Step(oracle.Pair{A: in["A"], B: in["B"]}, in["grad_A"], in["grad_B"])
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"--optimizer lora-muon --lr 0.5 --beta 0.9 --weight-decay 0.2 --step 1 --exact",
		"--exact --optimizer=lora-muon --learning-rate=5e-1 --momentum=.9 --weight-decay=2e-1 --step=40",
		"--optimizer lora-muon --lr 0.5 --weight-decay 0.2 --exact --no-guard --width-scale none --s 1",
	} {
		got := step(t, path, args)
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"A", "B", "grad_A", "grad_B", "m_A", "m_B"}) {
			t.Fatalf("%s: wrote %v", args, names)
		}
		check.Close(t, "A", minus(got["A"], in["A"]), minus(next.A, in["A"]), tol)
		check.Close(t, "B", minus(got["B"], in["B"]), minus(next.B, in["B"]), tol)
		check.Close(t, "m_A", elements(got["m_A"]), elements(next.MomentA), tol)
		check.Close(t, "m_B", elements(got["m_B"]), elements(next.MomentB), tol)
		check.Close(t, "grad_A", elements(got["grad_A"]), elements(in["grad_A"]), 0)
	}
}

// TestStepFlagsMatter: each flag changes the step in the way that it says.
func TestStepFlagsMatter(t *testing.T) {
	in := pairState(t, 10)
	path := state(t, in)
	const base = "--optimizer lora-muon --lr 0.1 --weight-decay 0 --exact "
	change := func(args string) []float64 { return minus(step(t, path, args)["A"], in["A"]) }
	times := func(x []float64, c float64) []float64 {
		out := slices.Clone(x)
		for i := range out {
			out[i] *= c
		}
		return out
	}
	plain := change(base)
	const tol = 1e-5
	check.Close(t, "rms", change(base+"--width-scale rms"), times(plain, 2), tol) // sqrt(20/5)
	check.Close(t, "moonlight", change(base+"--width-scale moonlight"), times(plain, 0.2*math.Sqrt(20)), tol)
	check.Close(t, "s", change(base+"--s 4"), times(plain, 0.25), tol)
	check.Close(t, "lr", change(base+"--lr 0.2"), times(plain, 2), tol)

	tiny := pairState(t, 1)
	tiny["B"].Scale(1e-3, tiny["B"])
	small := state(t, tiny)
	guarded, free := step(t, small, "--optimizer lora-muon"), step(t, small, "--optimizer lora-muon --no-guard")
	if a, b := mat.Norm(guarded["A"], 2), mat.Norm(free["A"], 2); a > b/10 {
		t.Errorf("with the guard ‖A‖ is %g, without %g: want the guard on", a, b)
	}
	exact := step(t, small, "--optimizer lora-muon --exact")
	check.Close(t, "exact has no guard", minus(exact["A"], tiny["A"]), minus(free["A"], tiny["A"]), 0.01)
	both := step(t, small, "--optimizer lora-muon --exact --guard")
	check.Close(t, "exact and guarded", minus(both["A"], tiny["A"]), minus(guarded["A"], tiny["A"]), 0.01)

	adam := "--optimizer adamw --lr 0.01 --weight-decay 0 "
	for _, flag := range []string{"--beta2 0.5", "--eps 1", "--step 9", "--beta 0.1"} {
		first, other := change(adam+"--step 3"), change(adam+"--step 3 "+flag)
		if check.Relative(other, first) < 1e-2 {
			t.Errorf("%s changes nothing", flag)
		}
	}
	if check.Relative(change("--optimizer sgd --nesterov"), change("--optimizer sgd")) < 1e-2 {
		t.Error("--nesterov changes nothing")
	}
}

// TestStepTakesW and a pair beside it, each with its own rule and state, and writes over its input.
func TestStepTakesW(t *testing.T) {
	in := pairState(t, 10)
	in["W"], in["grad_W"], in["m_W"] = oracle.Gaussian(7, 6, 9), oracle.Gaussian(8, 6, 9), oracle.Gaussian(9, 6, 9)
	path := state(t, in)
	said := must(t, "step", "--optimizer", "adamw", "--in", path, "-o", path)
	mustSay(t, said, "adamw, step 1: wrote "+path, "W        (6, 9)", "v_B      (5, 4)", "new")
	if names := slices.Sorted(maps.Keys(loadState(t, path))); strings.Join(names, " ") != "A B W grad_A grad_B grad_W m_A m_B m_W v_A v_B v_W" {
		t.Errorf("wrote %v", names)
	}
}

// TestStepRefuses: one clear line, a status that is not zero, and no output.
func TestStepRefuses(t *testing.T) {
	with := func(change func(map[string]*mat.Dense)) string {
		in := pairState(t, 10)
		change(in)
		return state(t, in)
	}
	good := with(func(map[string]*mat.Dense) {})
	nan := with(func(in map[string]*mat.Dense) { in["grad_B"].Set(2, 1, math.NaN()) })
	inf := with(func(in map[string]*mat.Dense) { in["A"].Set(0, 3, math.Inf(1)) })
	dense := state(t, map[string]*mat.Dense{"W": oracle.Gaussian(1, 3, 4), "grad_W": oracle.Gaussian(2, 3, 4)})
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	short := file(t, "short.safetensors", string(content[:len(content)-9]))
	integers := filepath.Join(t.TempDir(), "i.safetensors")
	if err := safetensors.Write(integers, []safetensors.Tensor{{Name: "W", DType: "I32", Shape: []int{1, 1}, Data: make([]byte, 4)}}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   []string
	}{
		{"--optimizer lora-muon --in " + nan, statusFailed, []string{nan, "grad_B[2 1] is nan", "finite"}},
		{"--optimizer lora-muon --in " + inf, statusFailed, []string{inf, "A[0 3] is inf", "finite"}},
		{"--optimizer lora-muon --in " + with(func(in map[string]*mat.Dense) { in["grad_A"] = oracle.Gaussian(1, 4, 20) }), statusFailed, []string{"grad_A has the shape [4 20], want [20 4]"}},
		{"--optimizer lora-muon --in " + with(func(in map[string]*mat.Dense) { in["B"] = oracle.Gaussian(1, 5, 3) }), statusFailed, []string{"[20 4]", "[5 3]"}},
		{"--optimizer lora-muon --in " + with(func(in map[string]*mat.Dense) { in["v_A"] = in["A"] }), statusFailed, []string{"unknown: v_A", "known here: A, grad_A, B, grad_B, m_A, m_B"}},
		{"--optimizer lora-muon --in " + with(func(in map[string]*mat.Dense) { delete(in, "grad_A") }), statusFailed, []string{"no gradient grad_A"}},
		{"--optimizer muon --in " + good, statusFailed, []string{"no rule for pairs", "lora-muon"}},
		{"--optimizer muon --in " + short, statusFailed, []string{short, "truncated"}},
		{"--optimizer muon --in " + integers, statusFailed, []string{integers, "I32"}},
		{"--optimizer muon --in nowhere.safetensors", statusFailed, []string{"nowhere.safetensors"}},
		{"--optimizer muno --in " + dense, statusUsage, []string{`"muno"`, "lora-muon, muon", "did you mean"}},
		{"--in " + dense, statusUsage, []string{"--optimizer"}},
		{"--optimizer muon", statusUsage, []string{"--in"}},
		{"--optimizer muon --step 0 --in " + dense, statusUsage, []string{"--step is 0", "count from 1"}},
		{"--optimizer muon --step -3 --in " + dense, statusUsage, []string{"--step is -3"}},
		{"--optimizer muon --lr 0 --in " + dense, statusUsage, []string{"learning rate must be positive"}},
		{"--optimizer muon --lr -0.1 --in " + dense, statusUsage, []string{"learning rate must be positive", "-0.1"}},
		{"--optimizer muon --lr nan --in " + dense, statusUsage, []string{"--lr is NaN", "finite"}},
		{"--optimizer muon --lr 2 --weight-decay 0.5 --in " + dense, statusUsage, []string{"weight decay 0.5 times learning rate 2"}},
		{"--optimizer muon --beta 1 --in " + dense, statusUsage, []string{"momentum must be in [0, 1), got 1"}},
		{"--optimizer muon --beta2 0.9 --in " + dense, statusUsage, []string{"--beta2 has no effect on muon"}},
		{"--optimizer sgd --eps 1 --in " + dense, statusUsage, []string{"--eps has no effect on sgd"}},
		{"--optimizer adamw --nesterov --in " + dense, statusUsage, []string{"--nesterov has no effect on adamw"}},
		{"--optimizer adamw --width-scale rms --in " + dense, statusUsage, []string{"--width-scale has no effect on adamw"}},
		{"--optimizer muon --width-scale big --in " + dense, statusUsage, []string{`--width-scale: unknown value "big"`}},
		{"--optimizer muon --no-guard --in " + dense, statusUsage, []string{"--guard has no effect on muon"}},
		{"--optimizer lora-muon --s 0 --in " + good, statusUsage, []string{"--s is 0"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := t.TempDir()
			status, stdout, stderr := real(t, append(strings.Fields("step "+c.args), "-o", filepath.Join(dir, "next.safetensors"))...)
			lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
			if status != c.status || stdout != "" || len(lines) > 2 || !strings.HasPrefix(lines[0], "polar: ") {
				t.Errorf("status %d, want %d; output %q; want one line and at most a hint:\n%s", status, c.status, stdout, stderr)
			}
			mustSay(t, stderr, c.want...)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	for _, out := range []string{"", filepath.Dir(good), "nowhere/next.safetensors"} {
		if status, _, errs := real(t, "step", "--optimizer", "lora-muon", "--in", good, "-o", out); status != statusUsage {
			t.Errorf("output %q: status %d: %s", out, status, errs)
		}
	}
}

// TestOptimizersListsCosts of the layer asked for, all of them, also as JSON.
func TestOptimizersListsCosts(t *testing.T) {
	said := must(t, "optimizers", "--fan-out", "1024", "--fan-in", "512", "--rank", "8")
	mustSay(t, said, "one layer 1024 x 512, rank 8")
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if len(lines) != 1+len(optimizer.Known()) {
		t.Errorf("%d lines for %d optimizers", len(lines), len(optimizer.Known()))
	}
	var list []listed
	if err := json.Unmarshal([]byte(must(t, "optimizers", "--json", "--fan-out=1024", "--fan-in=512", "--rank=8")), &list); err != nil {
		t.Fatal(err)
	}
	for i, info := range optimizer.Known() {
		cfg := need[optimizer.Config](t)(optimizer.Default(info.Name))
		cost := need[optimizer.Cost](t)(optimizer.CostOf(cfg, 1024, 512, 8))
		if one := list[i]; one.Name != info.Name || one.Operations != cost.Flops || one.StateBytes != cost.StateBytes || one.Pair != cost.Pair || one.LearningRate != cfg.LearningRate {
			t.Errorf("%s: %+v, want %+v", info.Name, one, cost)
		}
		if !strings.HasPrefix(lines[i+1], info.Name+" ") || !strings.HasSuffix(lines[i+1], info.Summary) || !strings.Contains(lines[i+1], count(cost.Flops)) {
			t.Errorf("line %q for %s", lines[i+1], info.Name)
		}
	}
	if status, _, errs := real(t, "optimizers", "--rank", "-1"); status != statusUsage || !strings.Contains(errs, "rank -1") {
		t.Errorf("rank -1: status %d: %s", status, errs)
	}
}

// TestFillWidthScale: only a --width-scale without a value gets one.
func TestFillWidthScale(t *testing.T) {
	for args, want := range map[string]string{
		"step --width-scale --in x": "step --width-scale=rms --in x", "step --width-scale": "step --width-scale=rms",
		"step --width-scale none": "step --width-scale none", "step --width-scale=jordan --in x": "step --width-scale=jordan --in x",
		"-- --width-scale": "-- --width-scale", "--width-scale -o y": "--width-scale=rms -o y",
	} {
		if got := strings.Join(fillWidthScale(strings.Fields(args)), " "); got != want {
			t.Errorf("%q became %q, want %q", args, got, want)
		}
	}
}

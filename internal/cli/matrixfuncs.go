package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/manifold"
	"github.com/polargo/polar/matfn"
)

// matrixFunction is one FUNC of polar matrix.
type matrixFunction struct {
	name, summary string
	inputs        int      // 2 for W and X
	needs, may    []string // flags, without --, that must and that may be given
	forms         []string
	symmetric     bool // W must be
	definite      bool // W must be positive semidefinite
	fixed         bool // takes no --schedule
	// build returns the function of in; nil prints the spectral norm instead.
	build func(c *matrixCommand, in []*Node, opts []matfn.Option) *Node
}

var clipForms = []string{"projected", "nested", "blockwise"}

// matrixFunctions lists the functions in the order of the help.
var matrixFunctions = []*matrixFunction{
	{name: "msign", summary: "polar factor U Vᵀ of W = U Σ Vᵀ; zeros stay", inputs: 1, forms: []string{"direct", "gram"},
		build: func(_ *matrixCommand, in []*Node, o []matfn.Option) *Node { return matfn.Msign(in[0], o...) }},
	{name: "invsqrt", summary: "inverse square root of a positive semidefinite W; zeros stay", inputs: 1, symmetric: true, definite: true, build: invSqrt},
	{name: "clip", summary: "singular values into [lo, hi]; zeros stay", inputs: 1, needs: []string{"lo", "hi"}, forms: clipForms,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.SpectralClip(in[0], *c.Lo, *c.Hi, o...)
		}},
	{name: "hardcap", summary: "singular values above beta to beta", inputs: 1, needs: []string{"beta"}, forms: clipForms,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.SpectralHardcap(in[0], *c.Beta, o...)
		}},
	{name: "relu", summary: "singular values below alpha to alpha; zeros stay", inputs: 1, needs: []string{"alpha"}, forms: clipForms,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.SpectralReLU(in[0], max(*c.Alpha, 0), o...) // no singular value is below a negative alpha
		}},
	{name: "clipped-decay", summary: "singular values s above beta to (1-lambda) s + lambda beta", inputs: 1, needs: []string{"beta", "lambda"}, forms: clipForms,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.SpectralClippedWeightDecay(in[0], *c.Beta, *c.Lambda, o...)
		}},
	{name: "eig-clip", summary: "eigenvalues into [lo, hi]", inputs: 1, needs: []string{"lo", "hi"}, symmetric: true,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.EigClip(in[0], *c.Lo, *c.Hi, o...)
		}},
	{name: "eig-relu", summary: "eigenvalues below alpha to alpha", inputs: 1, needs: []string{"alpha"}, symmetric: true,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.EigReLU(in[0], *c.Alpha, o...)
		}},
	{name: "eig-hardcap", summary: "eigenvalues above beta to beta", inputs: 1, needs: []string{"beta"}, symmetric: true,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.EigHardcap(in[0], *c.Beta, o...)
		}},
	{name: "psd", summary: "negative eigenvalues to zero", inputs: 1, symmetric: true,
		build: func(_ *matrixCommand, in []*Node, o []matfn.Option) *Node { return matfn.ProjPSD(in[0], o...) }},
	{name: "nsd", summary: "positive eigenvalues to zero", inputs: 1, symmetric: true,
		build: func(_ *matrixCommand, in []*Node, o []matfn.Option) *Node { return matfn.ProjNSD(in[0], o...) }},
	{name: "eig-step", summary: "projector onto eigenvalues above alpha, strictly", inputs: 1, needs: []string{"alpha"}, symmetric: true,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return matfn.EigStep(in[0], *c.Alpha, o...)
		}},
	{name: "tangent-psd", summary: "X onto the tangent cone at W of W ⪰ 0", inputs: 2, may: []string{"tol"}, symmetric: true, build: tangentPSD},
	{name: "tangent-spectrahedron", summary: "... of lo I ⪯ W ⪯ hi I", inputs: 2, needs: []string{"lo", "hi"}, may: []string{"tol"}, symmetric: true,
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return manifold.TangentSpectrahedron(in[0], in[1], *c.Lo, *c.Hi, c.tol(*c.Hi-*c.Lo), o...)
		}},
	{name: "tangent-ball", summary: "... of ‖W‖ ≤ radius", inputs: 2, needs: []string{"radius"}, may: []string{"tol"},
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return manifold.TangentBall(in[0], in[1], *c.Radius, c.tol(1), o...)
		}},
	{name: "tangent-band", summary: "... of singular values in [lo, hi]", inputs: 2, needs: []string{"lo", "hi"}, may: []string{"tol"},
		build: func(c *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return manifold.TangentBand(in[0], in[1], *c.Lo, *c.Hi, c.tol(1), o...)
		}},
	{name: "tangent-stiefel", summary: "... of singular values one", inputs: 2, fixed: true,
		build: func(_ *matrixCommand, in []*Node, o []matfn.Option) *Node {
			return manifold.TangentStiefel(in[0], in[1], o...)
		}},
	{name: "spectral-norm", summary: "prints the largest singular value, converged", inputs: 1, fixed: true},
}

// usage returns the function with the flags it needs and may have.
func (f *matrixFunction) usage() string {
	words := []string{f.name}
	for _, flag := range f.needs {
		words = append(words, "--"+flag)
	}
	for _, flag := range f.may {
		words = append(words, "[--"+flag+"]")
	}
	return strings.Join(words, " ")
}

// invSqrt is the inverse root: exact on eigenvalues above 1e-10 of the largest, which leaves out the negative ones that
// rounding a singular matrix to float32 makes, or with the ridge of the schedule.
func invSqrt(c *matrixCommand, in []*Node, opts []matfn.Option) *Node {
	p := in[0]
	if c.Schedule == "exact" {
		support := matfn.EigStep(p, 0, opts...)
		batch := make([]int, p.Rank()-2)
		for i := range batch {
			batch[i] = i
		}
		times := func(x, y *Node) *Node { return DotGeneral(x, []int{-1}, batch, y, []int{-2}, batch) }
		p = times(times(support, p), support)
	}
	return matfn.InvSqrt(p, opts...)
}

func tangentPSD(c *matrixCommand, in []*Node, opts []matfn.Option) *Node {
	if c.Tol == nil {
		return manifold.Set{Name: manifold.PSD}.Tangent(in[0], in[1], manifold.DefaultTol, opts...)
	}
	return manifold.TangentPSD(in[0], in[1], *c.Tol, opts...)
}

// tol returns the tolerance, or the default for a set of the given size.
func (c *matrixCommand) tol(size float64) float64 {
	if c.Tol != nil {
		return *c.Tol
	}
	return manifold.DefaultTol * size
}

// schedules are the names of --schedule besides exact. The inverse root has one of its own.
var schedules = map[string]matfn.Schedule{
	"polar-express": matfn.PolarExpress8, "jordan": matfn.JordanQuintic5, "you-cesista": matfn.YouCesista6,
}

const (
	withFinish   = "+finish"
	rootSchedule = "lora-muon"
)

var forms = map[string]matfn.Form{
	"auto": matfn.Auto, "direct": matfn.Direct, "gram": matfn.Gram, "projected": matfn.Projected, "nested": matfn.Nested,
	"blockwise": matfn.Blockwise,
}

// options returns what --schedule and --form ask of package matfn; both were checked.
func (c *matrixCommand) options(f *matrixFunction) []matfn.Option {
	opts := []matfn.Option{matfn.WithForm(forms[c.Form])}
	name, finish := strings.CutSuffix(c.Schedule, withFinish)
	switch {
	case name == "exact":
		return append(opts, matfn.WithExact())
	case f.definite:
		return opts
	case finish:
		opts = append(opts, matfn.WithExactFinish())
	}
	return append(opts, matfn.WithSchedule(schedules[name]))
}

// check refuses what does not fit the function, and returns it.
func (c *matrixCommand) check() (*matrixFunction, error) {
	f, err := findFunction(c.Func)
	if err != nil {
		return nil, err
	}
	wants := map[int]string{1: "one matrix", 2: "two matrices, W and then X"}[f.inputs]
	if len(c.In) != f.inputs {
		return nil, usagef("polar matrix "+f.usage()+map[int]string{1: " IN.npy", 2: " W.npy X.npy"}[f.inputs]+map[bool]string{true: " -o OUT.npy"}[f.build != nil],
			"%s takes %s, got %d", f.name, wants, len(c.In))
	}
	if err := c.checkFlags(f); err != nil {
		return nil, err
	}
	if err := c.checkBounds(f); err != nil {
		return nil, err
	}
	if err := c.checkMethod(f); err != nil {
		return nil, err
	}
	switch {
	case f.build == nil && c.Out != "":
		return nil, usagef("leave -o out", "%s prints a number and writes no file", f.name)
	case f.build == nil:
		return f, nil
	case c.Out == "":
		return nil, usagef("give -o OUT.npy", "%s has no output", f.name)
	}
	return f, checkOut(c.Out)
}

func findFunction(name string) (*matrixFunction, error) {
	var names []string
	for _, f := range matrixFunctions {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	list := "the functions are " + strings.Join(names, ", ")
	if name == "" {
		return nil, usagef(list, "matrix has no function")
	}
	if near := nearest.Word(strings.ToLower(name), names); near != "" {
		return nil, usagef("did you mean "+near+"? "+list, "unknown function %q", name)
	}
	return nil, usagef(list, "unknown function %q", name)
}

// numbers returns the numeric flags by name.
func (c *matrixCommand) numbers() map[string]*float64 {
	return map[string]*float64{"lo": c.Lo, "hi": c.Hi, "beta": c.Beta, "alpha": c.Alpha, "lambda": c.Lambda, "radius": c.Radius, "tol": c.Tol}
}

// numberFlags are the keys of numbers, in the order of the help.
var numberFlags = []string{"lo", "hi", "beta", "alpha", "lambda", "radius", "tol"}

// checkFlags refuses numeric flags that the function does not read, lacks, or that are not finite.
func (c *matrixCommand) checkFlags(f *matrixFunction) error {
	var missing []string
	for _, name := range numberFlags {
		value := c.numbers()[name]
		needed := slices.Contains(f.needs, name)
		switch {
		case value == nil && needed:
			missing = append(missing, "--"+name)
		case value == nil:
		case !needed && !slices.Contains(f.may, name):
			return usagef("", "--%s has no effect on %s; it is for %s", name, f.name, strings.Join(readersOf(name), ", "))
		case math.IsNaN(*value) || math.IsInf(*value, 0):
			return usagef("", "--%s is %v, want a finite number", name, *value)
		}
	}
	if len(missing) > 0 {
		return usagef("", "%s wants %s", f.name, strings.Join(missing, " and "))
	}
	return nil
}

// readersOf lists the functions that read a numeric flag.
func readersOf(flag string) (names []string) {
	for _, f := range matrixFunctions {
		if slices.Contains(f.needs, flag) || slices.Contains(f.may, flag) {
			names = append(names, f.name)
		}
	}
	return names
}

// checkBounds refuses bounds that enclose nothing.
func (c *matrixCommand) checkBounds(f *matrixFunction) error {
	switch {
	case c.Lo != nil && c.Hi != nil && *c.Lo > *c.Hi:
		return usagef("", "--lo %g is above --hi %g", *c.Lo, *c.Hi)
	case f.name == "clip" && *c.Hi < 0:
		return usagef("", "--hi is %g, but no singular value is negative", *c.Hi)
	case f.name == "tangent-band" && *c.Lo <= 0:
		return usagef("tangent-ball has no lower bound", "--lo is %g, but tangent-band wants it positive", *c.Lo)
	case c.Beta != nil && *c.Beta < 0 && !f.symmetric:
		return usagef("", "--beta is %g, want 0 or more", *c.Beta)
	case c.Lambda != nil && (*c.Lambda < 0 || *c.Lambda > 1):
		return usagef("", "--lambda is %g, want a fraction in [0, 1]", *c.Lambda)
	case c.Radius != nil && *c.Radius <= 0:
		return usagef("", "--radius is %g, want it positive", *c.Radius)
	case c.Tol != nil && *c.Tol < 0:
		return usagef("", "--tol is %g, want 0 or more", *c.Tol)
	}
	return nil
}

// checkMethod refuses a schedule or a form that the function does not have.
func (c *matrixCommand) checkMethod(f *matrixFunction) error {
	if c.Form != "auto" && !slices.Contains(f.forms, c.Form) {
		if len(f.forms) == 0 {
			return usagef("", "--form %s: %s has one form only", c.Form, f.name)
		}
		return usagef("", "--form %s: %s has %s", c.Form, f.name, strings.Join(f.forms, ", "))
	}
	if c.Schedule == "exact" {
		return nil
	}
	known := []string{"exact"}
	switch {
	case f.fixed:
		return usagef("", "--schedule has no effect on %s, which has no iteration to shorten", f.name)
	case f.definite:
		known = append(known, rootSchedule)
	default:
		for _, name := range []string{"polar-express", "jordan", "you-cesista"} {
			known = append(known, name, name+withFinish)
		}
	}
	if slices.Contains(known, c.Schedule) {
		return nil
	}
	hint := ""
	if near := nearest.Word(strings.ToLower(c.Schedule), known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	return usagef(hint, "--schedule: unknown value %q for %s, want one of %s", c.Schedule, f.name, strings.Join(known, ", "))
}

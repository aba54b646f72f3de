package optimizer

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/manifold"
	"github.com/polargo/polar/param"
)

// Manifold keeps hidden matrices in a set, for the optimizers that move them by Muon: the direction is that of steepest descent in
// the tangent cone, and each step ends in the set. The zero value is off.
//
// What lies in the set is W divided by the width scale of Config.Scale: with "rms", a ball of radius R is the weights of
// RMS-to-RMS norm at most R. Weight decay comes before the step, and the retraction after it.
type Manifold struct {
	// Set is one of manifold.Names: psd, spectrahedron, ball, band, stiefel. psd and spectrahedron are for square matrices.
	Set string `yaml:"set,omitempty"`
	// Radius is the ball's; Lo and Hi are the bounds of spectrahedron and band.
	Radius float64 `yaml:"radius,omitempty"`
	Lo     float64 `yaml:"lo,omitempty"`
	Hi     float64 `yaml:"hi,omitempty"`
	// Norm bounds a step: "spectral" ("" is the same) or "frobenius".
	Norm string `yaml:"norm,omitempty"`
	// Solver is one of manifold.Solvers: oracle, alternating ("" is the same), pdhg, dual.
	Solver string `yaml:"solver,omitempty"`
	// Steps are the solver's iterations; 0 chooses manifold.DefaultSteps.
	Steps int `yaml:"steps,omitempty"`
	// Params chooses the matrices, as patterns with commas between them; "" is all hidden matrices. A pattern is the name of a
	// variable with dots for slashes, without a last ".weight", or a dotted suffix of that, or a glob, in which * stands for any
	// characters.
	Params string `yaml:"params,omitempty"`
}

// On reports whether anything was set.
func (m Manifold) On() bool { return m != Manifold{} }

// Keys lists the settings by the names that SetKey, ParseManifold and String know them by.
func (Manifold) Keys() []string {
	return []string{"set", "radius", "lo", "hi", "norm", "solver", "steps", "params"}
}

// SetKey sets the setting of a key from its text. It returns an error for an unknown key, which lists the known ones and the
// nearest, and for a number that is none; what the settings mean together is Validate's to say.
func (m *Manifold) SetKey(key, text string) error {
	numbers := map[string]*float64{"radius": &m.Radius, "lo": &m.Lo, "hi": &m.Hi}
	words := map[string]*string{"set": &m.Set, "norm": &m.Norm, "solver": &m.Solver, "params": &m.Params}
	switch {
	case words[key] != nil:
		*words[key] = text
	case numbers[key] != nil:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s: want a number, got %q", key, text)
		}
		*numbers[key] = v
	case key == "steps":
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("steps: want a whole number, got %q", text)
		}
		m.Steps = v
	default:
		return nearest.Unknown("key", key, m.Keys())
	}
	return nil
}

// ParseManifold reads settings of the form "set=ball,radius=1,solver=alternating,steps=1,params=*.q_proj,*.k_proj"; what params
// lists ends with the next key. "" is off. The result is valid, and says what was left to choose.
func ParseManifold(text string) (Manifold, error) {
	var m Manifold
	if strings.TrimSpace(text) == "" {
		return m, nil
	}
	seen := map[string]bool{}
	last := ""
	for item := range strings.SplitSeq(text, ",") {
		key, value, assigned := strings.Cut(item, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !assigned && last == "params":
			m.Params += "," + key
			continue
		case !assigned:
			return m, fmt.Errorf("want key=value with commas between them, got %q", strings.TrimSpace(item))
		case seen[key]:
			return m, fmt.Errorf("%s is set twice", key)
		}
		if err := m.SetKey(key, value); err != nil {
			return m, err
		}
		seen[key], last = true, key
	}
	m = m.Resolved()
	return m, m.Validate()
}

// UnmarshalText is ParseManifold.
func (m *Manifold) UnmarshalText(text []byte) (err error) {
	*m, err = ParseManifold(string(text))
	return err
}

// MarshalText is String.
func (m Manifold) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalYAML is the mapping with the keys of SetKey.
func (m Manifold) MarshalYAML() (any, error) {
	type plain Manifold
	return plain(m), nil
}

// String returns the settings in the form that ParseManifold reads; "" when off.
func (m Manifold) String() string {
	var parts []string
	for _, setting := range m.Settings() {
		parts = append(parts, setting[0]+"="+setting[1])
	}
	return strings.Join(parts, ",")
}

// Settings returns the settings that are not zero as keys and texts.
func (m Manifold) Settings() (out [][2]string) {
	number := func(v float64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	steps := ""
	if m.Steps != 0 {
		steps = strconv.Itoa(m.Steps)
	}
	texts := []string{m.Set, number(m.Radius), number(m.Lo), number(m.Hi), m.Norm, m.Solver, steps, m.Params}
	for i, key := range m.Keys() {
		if texts[i] != "" {
			out = append(out, [2]string{key, texts[i]})
		}
	}
	return out
}

// Resolved returns the settings with what was left to choose.
func (m Manifold) Resolved() Manifold {
	if !m.On() {
		return m
	}
	m.Norm, m.Solver = cmp.Or(m.Norm, manifold.Spectral), cmp.Or(m.Solver, manifold.Alternating)
	m.Steps = cmp.Or(m.Steps, manifold.DefaultSteps(m.Solver))
	return m
}

func (m Manifold) set() manifold.Set {
	return manifold.Set{Name: m.Set, Radius: m.Radius, Lo: m.Lo, Hi: m.Hi}
}

func (m Manifold) solver() manifold.Solver {
	m = m.Resolved()
	return manifold.Solver{Name: m.Solver, Norm: m.Norm, Steps: m.Steps}
}

// Validate returns an error for settings that cannot work, naming the first; nil when off.
func (m Manifold) Validate() error {
	if !m.On() {
		return nil
	}
	if m.Set == "" {
		return fmt.Errorf("no set; known: %s", strings.Join(manifold.Names(), ", "))
	}
	if err := m.set().Validate(); err != nil {
		return err
	}
	interval := m.Set == manifold.Spectrahedron || m.Set == manifold.Band
	switch {
	case m.Radius != 0 && m.Set != manifold.Ball:
		return fmt.Errorf("radius is only for set ball, not %s", m.Set)
	case (m.Lo != 0 || m.Hi != 0) && !interval:
		return fmt.Errorf("lo and hi are only for sets spectrahedron and band, not %s", m.Set)
	}
	if err := m.solver().Validate(); err != nil {
		return err
	}
	for _, pattern := range m.patterns() {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("params: %q is not a pattern", pattern)
		}
	}
	return nil
}

// checkManifold reports settings that cannot work, and an optimizer that would ignore them.
func (c Config) checkManifold(e *entry, add func(string, ...any)) {
	if !c.Manifold.On() {
		return
	}
	if err := c.Manifold.Validate(); err != nil {
		add("manifold: %v", err)
	}
	to, _ := e.route(c, param.Spec{Role: param.Hidden, FanOut: 1, FanIn: 1})
	if _, muon := to.rule.(muonRule); !muon {
		add("a manifold is only for optimizers that move hidden matrices as muon does")
	}
}

func (m Manifold) patterns() []string {
	if m.Params == "" {
		return nil
	}
	patterns := strings.Split(m.Params, ",")
	for i := range patterns {
		patterns[i] = strings.TrimSpace(patterns[i])
	}
	return patterns
}

// manifoldChoice is the choice of matrices while variables are routed.
type manifoldChoice struct {
	m        Manifold
	patterns []string
	found    []bool // by pattern
	seen     []string
}

func (m Manifold) choice() *manifoldChoice {
	patterns := m.patterns()
	return &manifoldChoice{m: m, patterns: patterns, found: make([]bool, len(patterns))}
}

// onto returns the assignment of a variable with the manifold's rule in place of Muon's where it was chosen, or why not.
func (c *manifoldChoice) onto(to assignment, v *mlmodel.Variable, spec param.Spec) (assignment, error) {
	muon, isMuon := to.rule.(muonRule)
	if !c.m.On() || !isMuon || spec.Role != param.Hidden {
		return to, nil
	}
	name := variableName(v)
	c.seen = append(c.seen, name)
	chosen := len(c.patterns) == 0
	for i, pattern := range c.patterns {
		if matchesName(pattern, name) {
			chosen, c.found[i] = true, true
		}
	}
	if !chosen {
		return to, nil
	}
	if c.m.set().Symmetric() && spec.FanOut != spec.FanIn {
		return to, fmt.Errorf("%s %v is not square, and set %s is of symmetric matrices: choose others with params", v.Path(), v.Shape().Dimensions, c.m.Set)
	}
	to.rule = newManifoldRule(muon, c.m)
	return to, nil
}

// unmatched returns an error for patterns that no hidden matrix matched.
func (c *manifoldChoice) unmatched() error {
	if !c.m.On() {
		return nil
	}
	if len(c.seen) == 0 {
		return fmt.Errorf("manifold: there is no hidden matrix to keep in set %s", c.m.Set)
	}
	var problems []string
	for i, found := range c.found {
		if !found {
			problems = append(problems, fmt.Sprintf("%q matches no hidden matrix; nearest: %s", c.patterns[i], strings.Join(nearest.Words(c.patterns[i], c.seen, 3), ", ")))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("manifold params: %s", strings.Join(problems, "; "))
	}
	return nil
}

// variableName is a variable's path as a person knows it from a checkpoint: the layer's name.
func variableName(v *mlmodel.Variable) string {
	return strings.TrimSuffix(strings.ReplaceAll(strings.TrimPrefix(v.Path(), "/"), "/", "."), ".weight")
}

// matchesName reports whether a pattern is a name, a dotted suffix of it, or a glob that matches either.
func matchesName(pattern, name string) bool {
	return slices.ContainsFunc([]string{pattern, "*." + pattern}, func(p string) bool {
		matched, _ := path.Match(p, name)
		return matched
	})
}

package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model/initializer"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

// Layout is how the members of a group are put together before a rule sees them.
type Layout int

// The layouts. k is the number of members.
const (
	// Dense: one value [k, fan-out, fan-in].
	Dense Layout = iota
	// Paired: two values, A [k, fan-out, r] and B [k, fan-in, r]; a member is a pair.
	Paired
	// Flat: one value [n], the elements of all members one after another, whatever their shapes.
	Flat
)

// Slot is one state array of a group. Of is the index of the value it belongs to.
type Slot struct {
	Name string
	Of   int
	Dims []int
}

// Rule is how a group of same-shape parameters moves in one step. Rules hold settings, never state, and are comparable:
// variables are grouped by the value of their rule.
type Rule interface {
	// Name names the rule in routes, and the scope of its state.
	Name() string
	// Layout says how the rule wants its values.
	Layout() Layout
	// State lists the state the rule keeps for a group whose values have the given dimensions. All of it starts at zero.
	State(dims [][]int) []Slot
	// Directional reports that the rule uses only the direction of its gradients, so that clipping has no effect on it.
	Directional() bool
	// Flops returns the operations of one step on a group whose values have the given dimensions: those of its matrix
	// products, and of the elements only for rules that have no products.
	Flops(dims [][]int) int64
	// Update builds one step: values and grads are float32 (float64 for exact steps) in the rule's layout, and the new values
	// have the same shapes and dtype. Matrix functions come from s, which knows how exact they are to be.
	Update(s *Step, values, grads []*Node) []*Node
}

// assignment is what routing decides about one variable: the rule and the learning rate it follows.
type assignment struct {
	rule Rule
	// rate is the variable that holds the learning rate.
	rate rateName
	// multiple is a constant factor on that rate.
	multiple float64
}

// rateName names a learning-rate variable of the optimizer.
type rateName string

const (
	mainRate     rateName = "learning_rate"
	fallbackRate rateName = "fallback_learning_rate"
)

// Step is what a rule sees of the update being built.
type Step struct {
	// Group is the group being updated.
	Group *Group
	// Rate is the learning rate of this step, a scalar of the values' dtype: schedule and multiple included, width scale not.
	Rate *Node
	// Count is the number of this update since the state was created or cleared, a scalar of the values' dtype, from 1.
	Count *Node

	exact bool
	scope *mlmodel.Scope
	slots map[string]Slot
}

// State returns the current value of the state array called name, which the rule's State must list, in the values' dtype.
func (s *Step) State(name string) *Node {
	return as(s.Rate.DType(), s.variable(name).NodeValue(s.Rate.Graph()))
}

// SetState stores the new value of a state array.
func (s *Step) SetState(name string, value *Node) {
	s.variable(name).SetNodeValue(as(dtypes.Float32, value))
}

// options returns what matrix functions of this step are given.
func (s *Step) options() []matfn.Option {
	if s.exact {
		return []matfn.Option{matfn.WithExact()}
	}
	return nil
}

// Msign returns the polar factors of x [k, m, n].
func (s *Step) Msign(x *Node) *Node { return matfn.Msign(x, s.options()...) }

// InvSqrt returns the inverse roots of the symmetric positive semidefinite p [k, r, r]: with matfn's ridge, sharpened by a
// Newton-Schulz step, or exact. Zero gives zero.
func (s *Step) InvSqrt(p *Node) *Node {
	if s.exact {
		return matfn.InvSqrt(p, matfn.WithExact())
	}
	return sharpen(matfn.InvSqrt(p), p)
}

func (s *Step) variable(name string) *mlmodel.Variable {
	return s.scope.WithInitializer(initializer.Zero).
		VariableWithShape(name, shapes.Make(dtypes.Float32, s.slots[name].Dims...)).SetTrainable(false)
}

// Momentum updates the moving average m ← beta m + (1 - beta) g kept in the state called name and returns the
// direction to follow: m, or with nesterov beta m + (1 - beta) g once more.
func (s *Step) Momentum(name string, grad *Node, beta float64, nesterov bool) *Node {
	average := func(m *Node) *Node { return Add(MulScalar(m, beta), MulScalar(grad, 1-beta)) }
	m := average(s.State(name))
	s.SetState(name, m)
	if nesterov {
		return average(m)
	}
	return m
}

// fallbackAssignment routes embeddings, heads and vectors to the fallback's AdamW.
func fallbackAssignment(cfg Config) assignment {
	f := cfg.Fallback
	rule := adamRule{beta1: f.Beta1, beta2: f.Beta2, epsilon: f.Epsilon, weightDecay: f.WeightDecay}
	return assignment{rule: rule, rate: fallbackRate, multiple: 1}
}

// onMain routes to a rule at the main learning rate.
func onMain(rule Rule) assignment { return assignment{rule: rule, rate: mainRate, multiple: 1} }

// isFallbackRole reports whether a role goes to the fallback unless the configuration says otherwise.
func isFallbackRole(role param.Role) bool {
	return role == param.Embedding || role == param.Head || role == param.Vector
}

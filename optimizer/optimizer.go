package optimizer

import (
	"fmt"
	"math"
	"sync"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	gomlx "github.com/gomlx/gomlx/ml/train/optimizer"
)

// Scope is where all state lives in the store.
const Scope = "/optimizers/polar"

// countName is the variable that counts the updates since the state was created or cleared.
const countName = "count"

// Optimizer updates the trainable variables of a store. Make one with New.
type Optimizer struct {
	cfg   Config
	entry *entry

	mu sync.Mutex
	// attached holds the stores whose learning-rate variables were set from cfg.
	attached map[*mlmodel.Store]bool
}

var (
	_ gomlx.Interface             = (*Optimizer)(nil)
	_ train.OptimizeWithGradients = (*Optimizer)(nil)
)

// VarGrad is a variable and its gradient, a node of the variable's shape.
type VarGrad struct {
	Var  *mlmodel.Variable
	Grad *Node
}

// New returns the optimizer that cfg describes, or one error naming every setting that cannot work.
func New(cfg Config) (*Optimizer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e, err := find(cfg.Name)
	if err != nil {
		return nil, err
	}
	return &Optimizer{cfg: cfg, entry: e, attached: map[*mlmodel.Store]bool{}}, nil
}

// Config returns the configuration the optimizer was made from.
func (o *Optimizer) Config() Config { return o.cfg }

// UpdateGraph adds to the graph one update of the trainable variables that loss, a scalar, depends on. It implements
// GoMLX's optimizer.Interface and panics with an error when a variable cannot be routed.
func (o *Optimizer) UpdateGraph(scope *mlmodel.Scope, g *Graph, loss *Node) {
	if !loss.Shape().IsScalar() {
		panic(fmt.Errorf("optimizer %s: the loss must be a scalar, got shape %s", o.cfg.Name, loss.Shape()))
	}
	if _, err := o.groups(scope, inUse(scope, g)); err != nil {
		panic(err) // before the gradients, which are costly to build
	}
	o.UpdateGraphWithGradients(scope, scope.BuildTrainableVariablesGradientsGraph(loss), loss.DType())
}

// UpdateGraphWithGradients is UpdateGraph for gradients already computed, one for each trainable variable in use by
// their graph in the scope's order, as BuildTrainableVariablesGradientsGraph returns them. It implements GoMLX's
// train.OptimizeWithGradients. Apply is the same with the variables named.
func (o *Optimizer) UpdateGraphWithGradients(scope *mlmodel.Scope, gradients []*Node, _ dtypes.DType) {
	if len(gradients) == 0 {
		panic(fmt.Errorf("optimizer %s: no gradients: the loss depends on no trainable variable", o.cfg.Name))
	}
	g := gradients[0].Graph()
	vars := inUse(scope, g)
	if len(vars) != len(gradients) {
		panic(fmt.Errorf("optimizer %s: got %d gradients for the %d trainable variables in use by the graph; "+
			"use Apply to name the variables", o.cfg.Name, len(gradients), len(vars)))
	}
	pairs := make([]VarGrad, len(vars))
	for i, v := range vars {
		pairs[i] = VarGrad{v, gradients[i]}
	}
	o.Apply(scope, g, pairs)
}

// inUse lists the trainable variables that the graph uses, in the scope's order.
func inUse(scope *mlmodel.Scope, g *Graph) []*mlmodel.Variable {
	var vars []*mlmodel.Variable
	for _, v := range trainable(scope.IterVariables()) {
		if v.InUseByGraph(g) {
			vars = append(vars, v)
		}
	}
	return vars
}

// Apply adds to the graph one update of the given variables from the given gradients, and increments the global step.
// The variables need not be in use by the graph: it may hold nothing but the update, with the gradients as inputs. Give
// the same variables in every step, because state belongs to groups of them. It panics with an error when a variable
// cannot be routed or a gradient's shape is not its variable's.
func (o *Optimizer) Apply(scope *mlmodel.Scope, g *Graph, updates []VarGrad) {
	grads := make(map[*mlmodel.Variable]*Node, len(updates))
	vars := make([]*mlmodel.Variable, len(updates))
	for i, u := range updates {
		if !u.Grad.Shape().EqualDimensions(u.Var.Shape()) {
			panic(fmt.Errorf("optimizer %s: gradient of %s has shape %s, the variable %s",
				o.cfg.Name, u.Var.Path(), u.Grad.Shape(), u.Var.Shape()))
		}
		vars[i], grads[u.Var] = u.Var, u.Grad
	}
	if len(grads) != len(updates) {
		panic(fmt.Errorf("optimizer %s: a variable was given twice", o.cfg.Name))
	}
	groups, err := o.groups(scope, vars)
	if err != nil {
		panic(err)
	}
	rates, count := o.advance(scope, g)
	stacked := make([][]*Node, len(groups))
	for i, gr := range groups {
		stacked[i] = gr.stack(o.cfg.dtype(), func(v *mlmodel.Variable) *Node { return grads[v] })
	}
	if o.cfg.ClipNorm > 0 {
		clip(groups, stacked, o.cfg.ClipNorm)
	}
	for i, gr := range groups {
		o.update(scope, gr, rates, count, stacked[i])
	}
	if err := o.keepBudget(scope, g, groups); err != nil {
		panic(err)
	}
}

// update builds the step of one group from its stacked gradients.
func (o *Optimizer) update(scope *mlmodel.Scope, gr *Group, rates map[rateName]*Node, count *Node, grads []*Node) {
	step := o.stepOf(scope, gr, o.cfg.dtype(), rates, count)
	values := gr.stack(o.cfg.dtype(), func(v *mlmodel.Variable) *Node { return v.NodeValue(step.Rate) })
	gr.assign(o.cfg.bounded(gr, gr.to.rule.Update(step, values, grads)))
}

// stepOf returns what the rule of a group sees of a step in the given dtype.
func (o *Optimizer) stepOf(scope *mlmodel.Scope, gr *Group, dtype dtypes.DType, rates map[rateName]*Node, count *Node) *Step {
	rate := as(dtype, rates[gr.to.rate])
	if gr.to.multiple != 1 {
		rate = MulScalar(rate, gr.to.multiple)
	}
	step := &Step{
		Group: gr, Rate: rate, Count: as(dtype, count), exact: o.cfg.Exact,
		scope: scope.Store().Scope(Scope + "/" + gr.Name()), slots: map[string]Slot{},
	}
	for _, slot := range gr.to.rule.State(gr.Dims()) {
		step.slots[slot.Name] = slot
	}
	return step
}

// advance increments the global step and the count of updates, and returns this step's learning rates and count.
func (o *Optimizer) advance(scope *mlmodel.Scope, g *Graph) (rates map[rateName]*Node, count *Node) {
	store := scope.Store()
	o.attach(store)
	done := gomlx.GetGlobalStepVar(store).NodeValue(g)
	factor := o.cfg.Schedule.AtNode(done)
	gomlx.IncrementGlobalStep(g, dtypes.Int64)
	rates = map[rateName]*Node{}
	for _, name := range []rateName{mainRate, fallbackRate} {
		rates[name] = Mul(o.rateVar(store, name).NodeValue(g), factor)
	}
	countVar := store.Scope(Scope).VariableWithValue(countName, int64(0)).SetTrainable(false)
	counted := AddScalar(countVar.NodeValue(g), 1)
	countVar.SetNodeValue(counted)
	return rates, ConvertDType(counted, dtypes.Float32)
}

// baseRate returns the configured learning rate behind a rate variable.
func (o *Optimizer) baseRate(name rateName) float64 {
	if name == fallbackRate {
		return o.cfg.Fallback.LearningRate
	}
	return o.cfg.LearningRate
}

// rateVar returns the variable of a learning rate, created with the configured value.
func (o *Optimizer) rateVar(store *mlmodel.Store, name rateName) *mlmodel.Variable {
	return store.Scope(Scope).VariableWithValue(string(name), float32(o.baseRate(name))).SetTrainable(false)
}

// attach sets the store's learning rates to the configured ones the first time this optimizer meets the store: a store
// restored from a checkpoint follows the configuration, not the rate of the run that wrote it.
func (o *Optimizer) attach(store *mlmodel.Store) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attached[store] {
		return
	}
	for _, name := range []rateName{mainRate, fallbackRate} {
		if err := o.rateVar(store, name).SetValue(tensors.FromValue(float32(o.baseRate(name)))); err != nil {
			panic(fmt.Errorf("optimizer %s: set %s: %w", o.cfg.Name, name, err))
		}
	}
	o.attached[store] = true
}

// SetLearningRate changes the main learning rate of the store from the next step on, without a new compilation. The
// schedule still multiplies it. It returns an error when the rate cannot work with the configured weight decay.
func (o *Optimizer) SetLearningRate(store *mlmodel.Store, learningRate float64) error {
	changed := o.cfg
	changed.LearningRate = learningRate
	if err := changed.Validate(); err != nil {
		return err
	}
	o.attach(store)
	return o.rateVar(store, mainRate).SetValue(tensors.FromValue(float32(learningRate)))
}

// LearningRate returns the store's current main learning rate, before the schedule.
func (o *Optimizer) LearningRate(store *mlmodel.Store) float64 {
	v := store.GetVariable(Scope + "/" + string(mainRate))
	if v == nil || !v.HasValue() {
		return o.cfg.LearningRate
	}
	value, ok := v.MustValue().Value().(float32)
	if !ok {
		return math.NaN()
	}
	return float64(value)
}

// Clear deletes all state of Polar's optimizers from the scope's store, learning rates included. The global step stays.
func (o *Optimizer) Clear(scope *mlmodel.Scope) error {
	o.mu.Lock()
	delete(o.attached, scope.Store())
	o.mu.Unlock()
	if err := scope.Store().DeleteVariablesInScope(Scope); err != nil {
		return fmt.Errorf("clear optimizer %s: %w", o.cfg.Name, err)
	}
	return nil
}

package run

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/polargo/polar/optimizer"
)

// invarianceFile holds the checks of a run, in its folder and in the exported adapter's.
const (
	invarianceFile    = "invariance.json"
	invarianceVersion = 1
)

// The verdicts of a run's checks.
const (
	// Invariant says that no step drifted by more than the bound, as trained.
	Invariant = "invariant"
	// InvariantUpToRounding says that no step did in float64, but one in float32: the change of a step that is small against the
	// weights is rounded with them.
	InvariantUpToRounding = "invariant up to float32 rounding"
	// NotInvariant says that steps depend on the gauge.
	NotInvariant = "not invariant"
)

// Invariance is what a run's checks found: how much the steps on the products A Bᵀ would have differed in another gauge of
// the pairs. See optimizer.PairDrift.
type Invariance struct {
	Version   int    `json:"version"`
	Optimizer string `json:"optimizer"`
	Verdict   string `json:"verdict"`
	// Bound is the largest drift that counts as none.
	Bound float64 `json:"bound"`
	// Condition and Scalar are the gauges: a random matrix of this condition number, and this multiple of the identity.
	Condition float64 `json:"gauge_condition"`
	Scalar    float64 `json:"gauge_scalar"`
	Steps     []int   `json:"steps"`
	// WorstDrift is the largest drift as trained, WorstFloat64 the largest one in float64.
	WorstDrift   float64  `json:"worst_drift"`
	WorstFloat64 float64  `json:"worst_drift_float64"`
	WorstLayer   string   `json:"worst_layer"`
	WorstStep    int      `json:"worst_step"`
	Notes        []string `json:"notes"`
	// Layers holds each layer's step of the largest drift, worst first.
	Layers []LayerDrift `json:"layers"`
}

// LayerDrift is a layer's drift at a step.
type LayerDrift struct {
	optimizer.PairDrift
	AtStep int `json:"step"`
}

// InvarianceChecked is sent after a check and is a line of metrics.jsonl.
type InvarianceChecked struct {
	Step         int     `json:"step"` // the step that was checked, from 1
	Layers       int     `json:"invariance_layers"`
	Drift        float64 `json:"invariance_drift"`
	DriftFloat64 float64 `json:"invariance_drift_float64"`
	Layer        string  `json:"invariance_layer"` // of the largest drift
	Seconds      float64 `json:"seconds"`
}

func (InvarianceChecked) isEvent() {}

// invarianceRecord is invariance.json: the summary and all that it was made from.
type invarianceRecord struct {
	Invariance
	Checks []invarianceCheck `json:"checks"`
}

type invarianceCheck struct {
	Step   int                   `json:"step"`
	Layers []optimizer.PairDrift `json:"layers"`
}

// certifySteps are the steps that are checked, from 1: the first two, where momentum and guard set in, and the ends of the first
// three quarters. Later steps of a schedule that ends near zero say more about rounding than about the rule.
func certifySteps(steps int) []int {
	due := []int{1, 2, (steps + 3) / 4, (steps + 1) / 2, (3*steps + 3) / 4}
	due = slices.DeleteFunc(due, func(step int) bool { return step > steps })
	slices.Sort(due)
	return slices.Compact(due)
}

// certificate gathers the checks of a run.
type certificate struct {
	certifier *optimizer.Certifier
	due       []int
	record    invarianceRecord
	path      string
	took      time.Duration // by the last check
}

// beginCertificate prepares the checks of a run that was asked for them; a resumed run keeps those before its step.
func (t *trainer) beginCertificate() error {
	if !t.Config.CertifyInvariance {
		return nil
	}
	how := optimizer.DefaultRegauging
	certifier, err := t.optimizer.NewCertifier(t.backend, t.store, t.engine.trainable, how)
	if err != nil {
		return err
	}
	c := &certificate{certifier: certifier, due: certifySteps(t.steps), path: filepath.Join(t.Config.Out, invarianceFile)}
	if c.record.Checks, err = readChecks(c.path, t.from); err != nil {
		certifier.Close()
		return err
	}
	c.record.Invariance = Invariance{
		Version: invarianceVersion, Optimizer: t.Config.Optimizer, Bound: optimizer.InvarianceBound,
		Condition: how.Condition, Scalar: how.Scalar, Notes: append([]string{}, certifier.Notes()...),
	}
	t.certificate = c
	return nil
}

// readChecks returns the checks in a file of steps up to last; none when there is no file.
func readChecks(path string, last int) ([]invarianceCheck, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var old invarianceRecord
	if err := json.Unmarshal(text, &old); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return slices.DeleteFunc(old.Checks, func(c invarianceCheck) bool { return c.Step > last }), nil
}

// dueAt returns what looks at the gradients of a step, from 1, before they are used; nil when nothing does.
func (t *trainer) dueAt(step int) func(total sums) error {
	c := t.certificate
	if c == nil || !slices.Contains(c.due, step) {
		return nil
	}
	return func(total sums) error { return t.certify(step, total) }
}

// certify checks the step that is about to be taken from the gradients.
func (t *trainer) certify(step int, total sums) error {
	c, began := t.certificate, time.Now()
	t.progress("check the invariance of the step", 0, 0)
	drifts, err := c.certifier.Check(total.weight, total.tensors)
	if err != nil {
		return err
	}
	c.record.Checks = append(c.record.Checks, invarianceCheck{step, drifts})
	if err := writeJSON(c.path, c.record.summed()); err != nil {
		return err
	}
	c.took = time.Since(began)
	worst := slices.MaxFunc(drifts, func(a, b optimizer.PairDrift) int { return cmp.Compare(a.Worst(), b.Worst()) })
	wide := slices.MaxFunc(drifts, func(a, b optimizer.PairDrift) int { return cmp.Compare(a.WorstWide(), b.WorstWide()) })
	done := InvarianceChecked{
		Step: step, Layers: len(drifts), Drift: worst.Worst(), DriftFloat64: wide.WorstWide(), Layer: worst.Layer, Seconds: c.took.Seconds(),
	}
	if err := t.metrics.add(done); err != nil {
		return err
	}
	t.sink(done)
	return nil
}

// endCertificate releases the check and puts its summary into the result.
func (t *trainer) endCertificate(result *Result) {
	c := t.certificate
	if c == nil {
		return
	}
	c.close()
	if len(c.record.Checks) == 0 {
		t.note(true, "no step that was due for an invariance check was left")
		return
	}
	c.record = c.record.summed()
	result.Invariance = &c.record.Invariance
}

// close releases the compiled check.
func (c *certificate) close() {
	if c != nil && c.certifier != nil {
		c.certifier.Close()
		c.certifier = nil
	}
}

// spent returns the time that the check of a step took; training is timed without it.
func (c *certificate) spent(step int) time.Duration {
	if c == nil || !slices.Contains(c.due, step) {
		return 0
	}
	return c.took
}

// file returns the content of invariance.json, nil without checks.
func (c *certificate) file() ([]byte, error) {
	if c == nil || len(c.record.Checks) == 0 {
		return nil, nil
	}
	text, err := json.MarshalIndent(c.record, "", " ")
	return append(text, '\n'), err
}

// summed returns the record with its summary made from its checks.
func (r invarianceRecord) summed() invarianceRecord {
	r.Steps, r.WorstDrift, r.WorstFloat64 = nil, 0, 0
	worst := map[string]LayerDrift{}
	for _, check := range r.Checks {
		r.Steps = append(r.Steps, check.Step)
		for _, d := range check.Layers {
			r.WorstFloat64 = max(r.WorstFloat64, d.WorstWide())
			if was, seen := worst[d.Layer]; !seen || d.Worst() > was.Worst() {
				worst[d.Layer] = LayerDrift{d, check.Step}
			}
		}
	}
	r.Layers = nil
	for _, d := range worst {
		r.Layers = append(r.Layers, d)
	}
	slices.SortFunc(r.Layers, func(a, b LayerDrift) int {
		return cmp.Or(cmp.Compare(b.Worst(), a.Worst()), cmp.Compare(a.Layer, b.Layer))
	})
	if len(r.Layers) > 0 {
		r.WorstDrift, r.WorstLayer, r.WorstStep = r.Layers[0].Worst(), r.Layers[0].Layer, r.Layers[0].AtStep
	}
	switch {
	case r.WorstFloat64 > r.Bound:
		r.Verdict = NotInvariant
	case r.WorstDrift > r.Bound:
		r.Verdict = InvariantUpToRounding
	default:
		r.Verdict = Invariant
	}
	return r
}

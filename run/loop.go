package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/data"
	"github.com/polargo/polar/param"
)

// trainer is the state of a run between two steps.
type trainer struct {
	*Session
	state      state
	metrics    *metrics
	losses     []float64
	samples    []Sampled
	checkpoint string // newest on disk
	started    time.Time
	tokens     int64 // trained since started, for the rate
	savedStep  int
}

// Run trains, exports and verifies the export. When ctx is cancelled it saves its state after the step at hand and
// returns ErrInterrupted. A loss or gradient that is not finite is a *NonFiniteError.
func (s *Session) Run(ctx context.Context) (*Result, error) {
	t := &trainer{Session: s, started: time.Now(), savedStep: -1}
	if err := t.begin(); err != nil {
		return nil, err
	}
	defer func() { _ = t.metrics.close() }()
	if s.Config.Verify > 0 {
		return nil, t.verify(ctx)
	}
	if err := t.firstEvaluation(ctx); err != nil {
		return nil, err
	}
	early, err := t.train(ctx)
	if err != nil {
		return nil, err
	}
	return t.finish(ctx, early)
}

// begin creates the run folder or takes up the resumed state, and measures the probe before anything is trained.
func (t *trainer) begin() error {
	t.state = state{Version: stateVersion, Identity: t.identity, BestLoss: math.Inf(1), StartLoss: math.NaN(), LastLoss: math.NaN()}
	if !t.Config.Resume {
		r := record{Config: t.Config, Base: t.baseFingerprint(), Data: t.corpus.Fingerprint(), Identity: t.identity, Versions: versions()}
		if err := r.writeFolder(); err != nil {
			return err
		}
	}
	if t.resumed != nil {
		t.state = *t.resumed
		t.checkpoint = filepath.Join(t.Config.Out, checkpointsName, checkpointName(t.state.Step))
		t.savedStep = t.state.Step
		t.note(false, "continuing %s from step %d of %d", t.Config.Out, t.state.Step, t.steps)
	}
	if t.Config.Verify > 0 {
		t.metrics = &metrics{}
		return nil
	}
	var err error
	t.metrics, err = openMetrics(t.Config.Out, t.state.Step)
	return err
}

// firstEvaluation measures the validation loss before the first step.
func (t *trainer) firstEvaluation(ctx context.Context) error {
	if t.state.Step > 0 {
		return nil
	}
	if err := t.evaluateNow(ctx, 0); err != nil {
		return err
	}
	t.state.StartLoss = t.state.LastLoss
	return t.save()
}

// train runs the steps that are left; early says that patience ended it.
func (t *trainer) train(ctx context.Context) (early bool, err error) {
	c := t.Config
	for step := t.state.Step; step < t.steps; step++ {
		if ctx.Err() != nil {
			return false, t.interrupt()
		}
		if err := t.step(step); err != nil {
			return false, err
		}
		done := step + 1
		last := done == t.steps
		if done%c.EvalEvery == 0 || last {
			if err := t.evaluateNow(ctx, done); err != nil {
				return false, err
			}
			early = c.Patience > 0 && t.state.SinceBest >= c.Patience && !last
		}
		if c.SampleEvery > 0 && done%c.SampleEvery == 0 && !last {
			if err := t.sample(ctx, done); err != nil {
				return false, err
			}
		}
		if done%c.SaveEvery == 0 || last || early || t.state.BestStep == done {
			if err := t.save(); err != nil {
				return false, err
			}
		}
		if early {
			t.note(false, "stopped early at step %d: no better validation loss in %d evaluations (best %.4f at step %d)", done, c.Patience, t.state.BestLoss, t.state.BestStep)
			return true, nil
		}
	}
	return false, nil
}

// step takes one optimizer step and reports it.
func (t *trainer) step(step int) error {
	began := time.Now()
	batch, err := t.corpus.Train().Batch(int64(step), t.Config.Batch)
	if err != nil {
		return err
	}
	result, err := t.engine.step(batch, t.Config.Accumulate)
	var bad *NonFiniteError
	if errors.As(err, &bad) {
		bad.Step, bad.LastCheckpoint = step+1, t.checkpoint
	}
	if err != nil {
		return err
	}
	t.state.Step = step + 1
	t.state.Tokens += int64(result.weight)
	t.state.DataHash = chainHash(t.state.DataHash, batch)
	t.losses = append(t.losses, result.loss)
	t.tokens += int64(result.weight)
	elapsed := time.Since(t.started)
	done := StepDone{
		Step: t.state.Step, Steps: t.steps, Loss: result.loss, GradientNorm: result.gradientNorm,
		LearningRate: t.rateAt(step), Tokens: t.state.Tokens, Seconds: time.Since(began).Seconds(),
		TokensPerSecond: float64(t.tokens) / elapsed.Seconds(),
		Remaining:       elapsed / time.Duration(len(t.losses)) * time.Duration(t.steps-t.state.Step),
	}
	if err := t.metrics.add(done); err != nil {
		return err
	}
	t.sink(done)
	return nil
}

// chainHash extends a hash over batches by one: equal hashes mean equal data in equal order.
func chainHash(previous string, b data.Batch) string {
	h := sha256.New()
	_, _ = h.Write([]byte(previous))
	_, _ = h.Write([]byte(b.Hash()))
	return hex.EncodeToString(h.Sum(nil))
}

// evaluateNow measures the validation loss and keeps account of the best.
func (t *trainer) evaluateNow(ctx context.Context, step int) error {
	split := t.corpus.Validation()
	if split == nil || split.Rows() == 0 {
		return nil
	}
	began := time.Now()
	total := split.Batches(t.rowsPerCall())
	if most := t.Config.EvalBatches; most > 0 {
		total = min(total, most)
	}
	loss, tokens, err := t.engine.meanLoss(split.Windows(t.rowsPerCall()), t.Config.EvalBatches, func(done int) {
		t.progress("evaluate", int64(done), int64(total))
	})
	if err != nil {
		return fmt.Errorf("evaluate: %w", err)
	}
	if !finite(loss) {
		return &NonFiniteError{Step: step, What: "validation loss", Where: "the evaluation", LastCheckpoint: t.checkpoint}
	}
	best := loss < t.state.BestLoss
	t.state.LastLoss = loss
	if t.state.SinceBest++; best {
		t.state.BestLoss, t.state.BestStep, t.state.SinceBest = loss, step, 0
	}
	done := EvalDone{Step: step, ValidationLoss: loss, Tokens: tokens, Best: best, Seconds: time.Since(began).Seconds()}
	if err := t.metrics.add(done); err != nil {
		return err
	}
	t.sink(done)
	return nil
}

// save writes a checkpoint unless this step has one.
func (t *trainer) save() error {
	if t.savedStep == t.state.Step {
		return nil
	}
	weights, opt := t.savedVariables()
	var err error
	if t.state.Weights, err = hashVariables(weights); err != nil {
		return err
	}
	if t.state.Optimizer, err = hashVariables(opt); err != nil {
		return err
	}
	path, err := writeCheckpoint(t.Config.Out, t.state, append(weights, opt...))
	if err != nil {
		return err
	}
	t.checkpoint, t.savedStep = path, t.state.Step
	t.sink(Saved{Step: t.state.Step, Path: path, Best: t.state.BestStep == t.state.Step})
	return pruneCheckpoints(t.Config.Out, t.state.BestStep)
}

// savedVariables lists what a checkpoint holds: the weights that train (and the start of an adapter, which they are
// relative to), and the optimizer's state.
func (t *trainer) savedVariables() (weights, opt []*mlmodel.Variable) {
	frozen := map[string]bool{}
	for _, p := range t.decoder.Parameters() {
		frozen[param.Path(p.Name)] = true
	}
	for v := range t.store.IterVariables() {
		switch {
		case strings.HasPrefix(v.Path(), gradientScope) || !v.HasValue():
		case v.Trainable:
			weights = append(weights, v)
		case frozen[v.Path()]:
		case strings.HasPrefix(v.Path(), "/adapter"):
			weights = append(weights, v)
		default:
			opt = append(opt, v)
		}
	}
	return weights, opt
}

// interrupt saves what a cancelled run has.
func (t *trainer) interrupt() error {
	if err := t.save(); err != nil {
		return fmt.Errorf("%w, and the state could not be saved: %w", ErrInterrupted, err)
	}
	return fmt.Errorf("%w at step %d of %d; the state is in %s", ErrInterrupted, t.state.Step, t.steps, t.checkpoint)
}

// verify replays steps from an older checkpoint up to the newest one and compares the hashes of weights, optimizer
// state and data order, and the losses on the way.
func (t *trainer) verify(ctx context.Context) error {
	_, want, err := newestCheckpoint(t.Config.Out, -1, func(string) {})
	if err != nil {
		return err
	}
	if want.Step == t.state.Step {
		return fmt.Errorf("verify: %s has no checkpoint at least %d steps older than its newest (step %d)", t.Config.Out, t.Config.Verify, want.Step)
	}
	lines, err := readMetrics(t.Config.Out)
	if err != nil {
		return err
	}
	recorded := map[int]float64{}
	for _, line := range lines {
		if line.Loss != nil {
			recorded[line.Step] = *line.Loss
		}
	}
	from := t.state.Step
	for step := from; step < want.Step; step++ {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		if err := t.replay(step, recorded); err != nil {
			return err
		}
	}
	weights, opt := t.savedVariables()
	return t.compareHashes(from, want, weights, opt)
}

func (t *trainer) replay(step int, recorded map[int]float64) error {
	batch, err := t.corpus.Train().Batch(int64(step), t.Config.Batch)
	if err != nil {
		return err
	}
	result, err := t.engine.step(batch, t.Config.Accumulate)
	if err != nil {
		return err
	}
	t.state.DataHash = chainHash(t.state.DataHash, batch)
	if was, ok := recorded[step+1]; ok && was != result.loss {
		return fmt.Errorf("verify: step %d gave loss %v, the run recorded %v", step+1, result.loss, was)
	}
	t.sink(StepDone{Step: step + 1, Steps: t.steps, Loss: result.loss, GradientNorm: result.gradientNorm, LearningRate: t.rateAt(step)})
	return nil
}

func (t *trainer) compareHashes(from int, want state, weights, opt []*mlmodel.Variable) error {
	weightHash, err := hashVariables(weights)
	if err != nil {
		return err
	}
	optHash, err := hashVariables(opt)
	if err != nil {
		return err
	}
	var differ []string
	for what, pair := range map[string][2]string{
		"weights": {weightHash, want.Weights}, "optimizer state": {optHash, want.Optimizer}, "data order": {t.state.DataHash, want.DataHash},
	} {
		if pair[0] != pair[1] {
			differ = append(differ, what)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("verify: replaying steps %d to %d of %s gave other %s", from+1, want.Step, t.Config.Out, strings.Join(differ, ", "))
	}
	t.note(false, "verified: replaying steps %d to %d gives the same losses, weights (%.12s…), optimizer state (%.12s…) and data order (%.12s…)",
		from+1, want.Step, weightHash, optHash, t.state.DataHash)
	return nil
}

// rateAt is the main learning rate of a step counted from 0.
func (s *Session) rateAt(step int) float64 {
	return s.settings.LearningRate * s.settings.Schedule.At(step)
}

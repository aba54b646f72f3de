package run

import (
	"errors"
	"fmt"
	"time"
)

// Result is what a finished run found.
type Result struct {
	Folder                   string
	Adapter                  string // folder of the exported adapter; empty when all weights were trained
	Model                    string // folder of the exported model; empty when an adapter was trained
	Steps                    int
	StartLoss, FinalLoss     float64 // validation loss before the first and after the last step
	BestLoss                 float64
	BestStep                 int
	Losses                   []float64 // training loss a step
	Layers                   []LayerChange
	ProbeChange              float64 // largest change of a logit on the probe prompt
	ExportDifference         float64 // largest difference between the trainer's logits and the reloaded export's
	Seconds, TokensPerSecond float64
	StoppedEarly             bool
	Samples                  []Sampled
}

// LayerChange is how far training moved a layer.
type LayerChange struct {
	Layer   string
	Norm    float64 // spectral norm of the change of the weight
	Balance float64 // norm of A over norm of B; 0 when there is no pair
}

// Plan says what a run will do, before it does it.
type Plan struct {
	Model, Tokenizer, Backend string
	Parameters, Trainable     int64
	Routes                    []RouteLine
	Targets                   []string // adapted layers
	Data                      []string // lines on rows, tokens, truncation, packing
	Preview                   []PreviewSegment
	Steps, StepsPerEpoch      int
	TokensPerStep             int
	Memory                    int64         // estimated peak, bytes
	Time                      time.Duration // estimated for the whole run
	Notes                     []string
}

// RouteLine says which tensors train under which rule.
type RouteLine struct {
	Rule         string
	Tensors      int
	Parameters   int64
	LearningRate float64
	StateBytes   int64
	Examples     []string
}

// PreviewSegment is a stretch of an example; Trained is false where the loss is masked.
type PreviewSegment struct {
	Text    string
	Trained bool
}

// ErrInterrupted is returned by a run that was stopped from outside after saving its state.
var ErrInterrupted = errors.New("interrupted")

// NonFiniteError stops a run whose loss or gradient is NaN or infinite.
type NonFiniteError struct {
	Step           int
	What           string // "loss", "gradient"
	Where          string // first layer or tensor that is not finite
	LastCheckpoint string // empty when there is none
}

// Error names the step, the layer and the checkpoint to go back to.
func (e *NonFiniteError) Error() string {
	back := "no checkpoint was written yet"
	if e.LastCheckpoint != "" {
		back = "the last good checkpoint is " + e.LastCheckpoint
	}
	return fmt.Sprintf("step %d: the %s is not finite, first at %s; %s; lower the learning rate and --resume, or start again", e.Step, e.What, e.Where, back)
}

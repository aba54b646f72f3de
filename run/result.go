package run

import (
	"encoding/json"
	"errors"
	"reflect"
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
	ExportedStep             int       // whose weights the export holds: BestStep or Steps, see Config.Export
	Losses                   []float64 // training loss a step
	Layers                   []LayerChange
	ProbeChange              float64 // largest change of a logit on the probe prompt
	ExportDifference         float64 // largest difference between the trainer's logits and the reloaded export's
	Seconds, TokensPerSecond float64
	StoppedEarly             bool
	Samples                  []Sampled
	Invariance               *Invariance // nil unless it was checked
}

// MarshalJSON writes null for numbers that JSON has no form for, such as the validation loss of a run without validation
// data.
func (r Result) MarshalJSON() ([]byte, error) { return json.Marshal(jsonValue(reflect.ValueOf(r))) }

// jsonValue copies a value of structs, slices and scalars with nil for numbers that are not finite.
func jsonValue(value reflect.Value) any {
	switch value.Kind() {
	case reflect.Float64:
		if number := value.Float(); finite(number) {
			return number
		}
		return nil
	case reflect.Slice:
		list := make([]any, value.Len())
		for i := range list {
			list[i] = jsonValue(value.Index(i))
		}
		return list
	case reflect.Struct:
		fields := map[string]any{}
		for i := range value.NumField() {
			name := value.Type().Field(i).Name
			if tag := value.Type().Field(i).Tag.Get("json"); tag != "" {
				name = tag
			}
			fields[name] = jsonValue(value.Field(i))
		}
		return fields
	}
	return value.Interface()
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

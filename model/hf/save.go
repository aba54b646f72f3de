package hf

import (
	"encoding/json"
	"errors"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/tokenizer"
)

// Extra is what Save writes beside the weights; every field may be left out.
type Extra struct {
	Tokenizer        tokenizer.Tokenizer
	ChatTemplate     string
	GenerationConfig json.RawMessage
	// Config is the config.json the model came from: its fields that Polar does not decide (token ids and the like) are kept.
	Config json.RawMessage
}

// Extra returns what belongs beside the model when it is saved again.
func (l *Loaded) Extra() Extra {
	return Extra{Tokenizer: l.Tokenizer, ChatTemplate: l.ChatTemplate, GenerationConfig: l.GenerationConfig, Config: l.Config}
}

// Save writes the model as a folder that transformers loads (the lab architecture only Polar reads): config.json,
// model.safetensors in float32, and what extra holds. The folder appears whole or not at all; an existing one is replaced.
func Save(dir string, dec *model.Decoder, store *mlmodel.Store, extra Extra) error {
	return errors.New("being built")
}

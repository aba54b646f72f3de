// Logits writes a model's logits, with an adapter on it, on fixed token ids: what bench/peft_check.py compares with PEFT's.
//
//	go run ./bench/logits --model BASE --adapter ADAPTER -o LOGITS.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"

	gomlx "github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/model/hf"
)

const rows, length = 2, 16

func main() {
	name, folder := flag.String("model", "", "base model"), flag.String("adapter", "", "adapter's folder; empty: the base alone")
	out := flag.String("o", "logits.json", "file to write")
	flag.Parse()
	if err := write(*name, *folder, *out); err != nil {
		fmt.Fprintln(os.Stderr, "logits:", err)
		os.Exit(1)
	}
}

func write(name, folder, out string) error {
	if name == "" {
		return errors.New("give --model")
	}
	b, err := backend.Open("")
	if err != nil {
		return err
	}
	loaded, err := hf.Load(context.Background(), name, hf.LoadOptions{Offline: true, Backend: b})
	if err != nil {
		return err
	}
	var options model.Options
	if folder != "" {
		saved, err := peft.Load(folder)
		if err != nil {
			return err
		}
		set, err := adapter.FromPEFT(loaded.Store, loaded.Decoder.Layers(), saved)
		if err != nil {
			return err
		}
		options.Linear = set.Linear(loaded.Store)
	}
	tokens := draw(loaded.Decoder.Config().VocabSize)
	logits, err := compute(b, loaded, options, tokens)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"tokens": tokens, "logits": logits})
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

// draw returns the same token ids for a size of vocabulary.
func draw(vocabulary int) [][]int32 {
	rng, tokens := rand.New(rand.NewPCG(1, 2)), make([][]int32, rows)
	for i := range tokens {
		for range length {
			tokens[i] = append(tokens[i], rng.Int32N(int32(vocabulary)))
		}
	}
	return tokens
}

// compute returns the logits [rows, length, vocabulary].
func compute(b gomlx.Backend, loaded *hf.Loaded, options model.Options, tokens [][]int32) ([][][]float32, error) {
	return graphx.Try1(func() ([][][]float32, error) {
		exec, err := mlmodel.NewExec(b, loaded.Store, func(_ *mlmodel.Scope, tokens *graph.Node) *graph.Node {
			return loaded.Decoder.Logits(loaded.Store, model.Inputs{Tokens: tokens}, options)
		})
		if err != nil {
			return nil, err
		}
		defer exec.Finalize()
		outputs, err := exec.Call(tensors.FromValue(tokens))
		if err != nil {
			return nil, err
		}
		flat, err := tensors.CopyFlatData[float32](outputs[0])
		if err != nil {
			return nil, err
		}
		vocabulary, logits := len(flat)/(rows*length), make([][][]float32, rows)
		for i := range rows * length {
			logits[i/length] = append(logits[i/length], flat[i*vocabulary:(i+1)*vocabulary])
		}
		return logits, nil
	})
}

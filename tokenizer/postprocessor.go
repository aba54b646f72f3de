package tokenizer

import (
	"encoding/json"
	"fmt"
)

type postProcessorJSON struct {
	Type       string            `json:"type"`
	Processors []json.RawMessage `json:"processors"`
	Single     []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
	Sep json.RawMessage `json:"sep"`
	Cls json.RawMessage `json:"cls"`
}

// newPostProcessor returns the ids that go before and after a single text.
func newPostProcessor(raw json.RawMessage, depth int) (before, after []int32, err error) {
	if absent(raw) {
		return nil, nil, nil
	}
	var j postProcessorJSON
	if err := decodeInto("post_processor", raw, &j); err != nil {
		return nil, nil, err
	}
	switch j.Type {
	case "ByteLevel": // offsets only
		return nil, nil, nil
	case "TemplateProcessing":
		return j.template()
	case "BertProcessing", "RobertaProcessing":
		return j.bert()
	case "Sequence":
		if depth >= maxNesting {
			return nil, nil, fmt.Errorf("post_processor: Sequence nested deeper than %d", maxNesting)
		}
		for _, p := range j.Processors {
			b, a, err := newPostProcessor(p, depth+1)
			if err != nil {
				return nil, nil, err
			}
			before = append(append([]int32{}, b...), before...)
			after = append(after, a...)
		}
		return before, after, nil
	}
	return nil, nil, fmt.Errorf("post_processor type %q is not supported; known: TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing, Sequence", j.Type)
}

func (j *postProcessorJSON) template() (before, after []int32, err error) {
	seen := 0
	for _, item := range j.Single {
		switch {
		case item.Sequence != nil:
			seen++
		case item.SpecialToken != nil:
			token, ok := j.SpecialTokens[item.SpecialToken.ID]
			if !ok {
				return nil, nil, fmt.Errorf("post_processor: special token %q is used in \"single\" but not defined", item.SpecialToken.ID)
			}
			if seen == 0 {
				before = append(before, token.IDs...)
			} else {
				after = append(after, token.IDs...)
			}
		}
	}
	if seen != 1 {
		return nil, nil, fmt.Errorf("post_processor: \"single\" names the text %d times, want once", seen)
	}
	return before, after, nil
}

func (j *postProcessorJSON) bert() (before, after []int32, err error) {
	read := func(what string, raw json.RawMessage) ([]int32, error) {
		var token string
		var id int32
		if err := json.Unmarshal(raw, &[]any{&token, &id}); err != nil {
			return nil, fmt.Errorf("post_processor.%s: want [token, id]", what)
		}
		return []int32{id}, nil
	}
	if before, err = read("cls", j.Cls); err != nil {
		return nil, nil, err
	}
	after, err = read("sep", j.Sep)
	return before, after, err
}

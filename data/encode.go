package data

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polargo/polar/tokenizer"
)

// encoder turns rows into token ids with a mark on those trained on.
type encoder struct {
	tok            tokenizer.Tokenizer
	chat           *tokenizer.ChatTemplate
	prefix, suffix []int // what the tokenizer adds around a text
	eos            int
	hasEOS         bool
}

func newEncoder(tok tokenizer.Tokenizer, chat *tokenizer.ChatTemplate) *encoder {
	e := &encoder{tok: tok, chat: chat}
	e.eos, e.hasEOS = tok.EOS()
	e.prefix, e.suffix = addedSpecials(tok)
	if e.hasEOS && !slices.Contains(e.suffix, e.eos) {
		e.suffix = append(e.suffix, e.eos)
	}
	return e
}

// addedSpecials finds what the tokenizer's post-processor puts before and behind a text.
func addedSpecials(tok tokenizer.Tokenizer) (prefix, suffix []int) {
	const probe = "a"
	bare, err := tok.Encode(probe, false)
	if err != nil || len(bare) == 0 {
		return nil, nil // a vocabulary without the letter a has no post-processor
	}
	full, err := tok.Encode(probe, true)
	if err != nil {
		return nil, nil
	}
	for at := 0; at+len(bare) <= len(full); at++ {
		if slices.Equal(full[at:at+len(bare)], bare) {
			return full[:at], slices.Clone(full[at+len(bare):])
		}
	}
	return nil, nil
}

// encode returns the ids of a row; trained[i] says that the loss takes ids[i] as a target. A row with nothing to train on is an error.
func (e *encoder) encode(r row) (ids []int, trained []bool, err error) {
	switch r.form {
	case formText:
		return e.encodeText(r.text)
	case formPair:
		return e.encodePair(r.prompt, r.completion)
	}
	return e.encodeChat(r.messages)
}

func (e *encoder) encodeText(text string) ([]int, []bool, error) {
	ids, err := e.tok.Encode(text, false)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 {
		return nil, nil, errors.New("text is empty: nothing to train on; remove the row")
	}
	ids = slices.Concat(e.prefix, ids, e.suffix)
	if len(ids) < 2 {
		return nil, nil, errors.New("text is a single token: there is no next token to train on; remove the row")
	}
	trained := make([]bool, len(ids))
	for i := range trained {
		trained[i] = true
	}
	return ids, trained, nil
}

// encodePair encodes prompt and completion apart, as generation does, so that the border lies between two tokens.
func (e *encoder) encodePair(prompt, completion string) ([]int, []bool, error) {
	before, err := e.tok.Encode(prompt, false)
	if err != nil {
		return nil, nil, fmt.Errorf("prompt: %w", err)
	}
	after, err := e.tok.Encode(completion, false)
	if err != nil {
		return nil, nil, fmt.Errorf("completion: %w", err)
	}
	if len(after) == 0 {
		return nil, nil, errors.New("completion is empty: every label is masked, nothing to train on; remove the row")
	}
	ids := slices.Concat(e.prefix, before)
	border := len(ids)
	ids = slices.Concat(ids, after, e.suffix)
	if len(ids) < 2 {
		return nil, nil, errors.New("prompt and completion are a single token together: there is no next token to train on; remove the row")
	}
	trained := make([]bool, len(ids))
	for i := border; i < len(ids); i++ {
		trained[i] = true
	}
	return ids, trained, nil
}

func (e *encoder) encodeChat(messages []tokenizer.Message) ([]int, []bool, error) {
	if e.chat == nil {
		return nil, nil, errors.New("the row has messages, but the model brings no chat template " +
			"(chat_template.jinja, or chat_template in tokenizer_config.json): use a chat model, or prompt and completion")
	}
	if !slices.ContainsFunc(messages, func(m tokenizer.Message) bool { return m.Role == "assistant" && strings.TrimSpace(m.Content) != "" }) {
		return nil, nil, fmt.Errorf("messages hold no answer of the role assistant (%d messages): every label is masked, nothing to train on; remove the row", len(messages))
	}
	ids, trained, err := tokenizer.EncodeChat(e.tok, e.chat, messages)
	if err != nil {
		return nil, nil, err
	}
	first := slices.Index(trained, true)
	if first < 0 {
		return nil, nil, errors.New("messages: every label is masked, nothing to train on; remove the row")
	}
	// A template that writes something behind the last answer, or ends it with the end-of-text token, has ended it itself.
	if e.hasEOS && trained[len(trained)-1] && !slices.Contains(ids[lastRun(trained):], e.eos) {
		ids, trained = append(ids, e.eos), append(trained, true)
	}
	return ids, trained, nil
}

// lastRun is the beginning of the last run of true.
func lastRun(trained []bool) int {
	i := len(trained) - 1
	for i > 0 && !trained[i] {
		i--
	}
	for i > 0 && trained[i-1] {
		i--
	}
	return i
}

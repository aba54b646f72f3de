package peft

type config struct{}

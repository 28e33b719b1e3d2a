package pacemaker

import (
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
)

// Spec is an async script as its fibers need it.
type Spec = script.Spec

// child is a child partition and where it stands.
type child struct {
	script.Child
	at       model.Offset // its source offset
	verdicts []model.Offset
}

func childrenOf(s *Spec, index int32) []child {
	listed := s.Children(index)
	all := make([]child, len(listed))
	for i, c := range listed {
		all[i].Child = c
	}
	return all
}

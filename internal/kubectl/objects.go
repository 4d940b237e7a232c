package kubectl

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The labels of a stack's pods, and of its other objects.
const (
	nameLabel      = "app.kubernetes.io/name"
	instanceLabel  = "app.kubernetes.io/instance"
	componentLabel = "app.kubernetes.io/component"
)

// Pod is one pod of a stack.
type Pod struct {
	Name, UID string
	Stack     string // app.kubernetes.io/instance
	Component string // app.kubernetes.io/component
	Node      string // its machine; empty while it has none
	Container string
	Args      []string // of the container
	Claims    []string // persistent volume claims
	Configs   []string // ConfigMaps that it mounts
	Ready     bool
	Ending    bool // it is being deleted
	Restarts  int
}

// object has the fields that are read of every kind of object.
type object struct {
	Metadata struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Generation        int64             `json:"generation"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
	} `json:"metadata"`
}

type podObject struct {
	object
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name string   `json:"name"`
			Args []string `json:"args"`
		} `json:"containers"`
		Volumes []struct {
			ConfigMap *struct {
				Name string `json:"name"`
			} `json:"configMap"`
			Claim *struct {
				Name string `json:"claimName"`
			} `json:"persistentVolumeClaim"`
		} `json:"volumes"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
		ContainerStatuses []struct {
			RestartCount int `json:"restartCount"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

func (o podObject) pod() Pod {
	p := Pod{
		Name: o.Metadata.Name, UID: o.Metadata.UID, Node: o.Spec.NodeName,
		Stack: o.Metadata.Labels[instanceLabel], Component: o.Metadata.Labels[componentLabel],
		Ending: o.Metadata.DeletionTimestamp != "",
	}
	if len(o.Spec.Containers) > 0 {
		p.Container, p.Args = o.Spec.Containers[0].Name, o.Spec.Containers[0].Args
	}
	for _, v := range o.Spec.Volumes {
		switch {
		case v.Claim != nil:
			p.Claims = append(p.Claims, v.Claim.Name)
		case v.ConfigMap != nil:
			p.Configs = append(p.Configs, v.ConfigMap.Name)
		}
	}
	for _, c := range o.Status.Conditions {
		p.Ready = p.Ready || c.Type == "Ready" && c.Status == "True"
	}
	for _, c := range o.Status.ContainerStatuses {
		p.Restarts += c.RestartCount
	}
	return p
}

// ofStack returns the query for the objects of a stack, or of all stacks if the name is empty.
func ofStack(name string) string {
	selector := nameLabel + "=holdfast"
	if name != "" {
		selector += "," + instanceLabel + "=" + name
	}
	return "?labelSelector=" + url.QueryEscape(selector)
}

// Pods returns the pods of a stack, or of all stacks if the name is empty, sorted by name. It
// leaves out pods that have ended for good, for example because their machine had no room.
func (c Cluster) Pods(ctx context.Context, stack string) ([]Pod, error) {
	var list struct {
		Items []podObject `json:"items"`
	}
	if err := c.Get(ctx, "/api/v1/namespaces/"+c.Namespace+"/pods"+ofStack(stack), &list); err != nil {
		return nil, err
	}
	var pods []Pod
	for _, item := range list.Items {
		if item.Status.Phase != "Failed" && item.Status.Phase != "Succeeded" {
			pods = append(pods, item.pod())
		}
	}
	slices.SortFunc(pods, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

// Workload is a Deployment or StatefulSet.
type Workload struct {
	Kind, Name string // deployment or statefulset
	Component  string
	Replicas   int
	// Settled is true if all of its pods have the newest template, and the controller has seen
	// its last change.
	Settled bool
}

// Ref returns the workload's name for kubectl: KIND/NAME.
func (w Workload) Ref() string { return w.Kind + "/" + w.Name }

type workloadObject struct {
	object
	Spec struct {
		Replicas *int `json:"replicas"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64  `json:"observedGeneration"`
		Replicas           int    `json:"replicas"`
		UpdatedReplicas    int    `json:"updatedReplicas"`
		CurrentRevision    string `json:"currentRevision"`
		UpdateRevision     string `json:"updateRevision"`
	} `json:"status"`
}

func (o workloadObject) workload(kind string) Workload {
	w := Workload{Kind: kind, Name: o.Metadata.Name, Component: o.Metadata.Labels[componentLabel], Replicas: 1}
	if o.Spec.Replicas != nil {
		w.Replicas = *o.Spec.Replicas
	}
	w.Settled = o.Status.ObservedGeneration >= o.Metadata.Generation && o.Status.Replicas == w.Replicas
	if kind == "deployment" { // a StatefulSet is settled when its two revisions are the same
		w.Settled = w.Settled && o.Status.UpdatedReplicas == w.Replicas
	} else {
		w.Settled = w.Settled && o.Status.CurrentRevision == o.Status.UpdateRevision
	}
	return w
}

// Workloads returns the Deployments and StatefulSets of a stack.
func (c Cluster) Workloads(ctx context.Context, stack string) ([]Workload, error) {
	var all []Workload
	for _, kind := range []string{"deployment", "statefulset"} {
		var list struct {
			Items []workloadObject `json:"items"`
		}
		if err := c.Get(ctx, fmt.Sprintf("/apis/apps/v1/namespaces/%s/%ss%s", c.Namespace, kind, ofStack(stack)), &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			all = append(all, item.workload(kind))
		}
	}
	return all, nil
}

// Config returns the content of a file in a ConfigMap.
func (c Cluster) Config(ctx context.Context, name, file string) (string, error) {
	var config struct {
		Data map[string]string `json:"data"`
	}
	if err := c.Get(ctx, "/api/v1/namespaces/"+c.Namespace+"/configmaps/"+name, &config); err != nil {
		return "", err
	}
	text, there := config.Data[file]
	if !there {
		return "", fmt.Errorf("the ConfigMap %s has no file %s", name, file)
	}
	return text, nil
}

// ClaimUID returns the UID of a persistent volume claim. A new claim of the same name has
// another UID.
func (c Cluster) ClaimUID(ctx context.Context, name string) (string, error) {
	var claim object
	err := c.Get(ctx, "/api/v1/namespaces/"+c.Namespace+"/persistentvolumeclaims/"+name, &claim)
	return claim.Metadata.UID, err
}

// Cordoned reports whether a machine takes no new pods.
func (c Cluster) Cordoned(ctx context.Context, node string) (bool, error) {
	var machine struct {
		Spec struct {
			Unschedulable bool `json:"unschedulable"`
		} `json:"spec"`
	}
	err := c.Get(ctx, "/api/v1/nodes/"+node, &machine)
	return machine.Spec.Unschedulable, err
}

/** @file What a person has picked. */

/** A value of the graph, by its name: nodes, steps and buffers are found by it. */
export type Pick = string;

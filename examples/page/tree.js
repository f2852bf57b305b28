// The branches of a conversation. Messages never change: an edit or another reply is a new message with the same
// parent, so a conversation is a tree, of which one path is active.

export class Tree {
  constructor(messages) {
    this.byId = new Map(messages.map(message => [message.id, message]));
    this.children = Map.groupBy ? Map.groupBy(messages, message => message.parent_id) : groupByParent(messages);
  }

  // The messages from the first one to the leaf.
  pathTo(leafId) {
    const path = [];
    for (let message = this.byId.get(leafId); message; message = this.byId.get(message.parent_id)) path.unshift(message);
    return path;
  }

  // The versions of a message: itself and those with the same parent, oldest first.
  versions(message) {
    return this.children.get(message.parent_id);
  }

  // Where the newest branch below a message ends.
  newestLeaf(message) {
    for (let below; (below = this.children.get(message.id)); message = below.at(-1));
    return message;
  }
}

function groupByParent(messages) {
  const groups = new Map();
  for (const message of messages) {
    if (!groups.has(message.parent_id)) groups.set(message.parent_id, []);
    groups.get(message.parent_id).push(message);
  }
  return groups;
}

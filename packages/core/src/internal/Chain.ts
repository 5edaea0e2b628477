/** A doubly linked list through its members: the first, the last and any other are taken out in constant time. */

/** What a chain links; in one chain at a time. */
export class Link {
  prev: this | undefined = undefined
  next: this | undefined = undefined
  chain: { remove(link: Link): void } | undefined = undefined

  /** Takes it out of whichever chain it is in. */
  unlink(): void {
    this.chain?.remove(this)
  }
}

/** Members in the order they were added. */
export class Chain<L extends Link> {
  first: L | undefined = undefined
  last: L | undefined = undefined
  size = 0

  /** Adds one that is in no chain, as the last. */
  push(link: L): void {
    link.chain = this
    link.prev = this.last
    if (this.last === undefined) this.first = link
    else this.last.next = link
    this.last = link
    this.size++
  }

  /** Takes one of its own out. */
  remove(link: L): void {
    if (link.prev === undefined) this.first = link.next
    else link.prev.next = link.next
    if (link.next === undefined) this.last = link.prev
    else link.next.prev = link.prev
    link.prev = undefined
    link.next = undefined
    link.chain = undefined
    this.size--
  }

  /** Takes the first out. */
  shift(): L | undefined {
    const { first } = this
    if (first !== undefined) this.remove(first)
    return first
  }
}
